#pragma once

// Draws a token from each row of logits where the logits are: what the processor's Sampler
// (cpu/sampling/sampler.h) does, by its rules and with its numbers. What is drawn for a row depends on the
// row and its request alone, bit for bit. It differs from the processor's choice only where a sum of weights
// comes within rounding, about 1e-7 of the whole, of the drawn number or of top-p.
//
// At temperature 0 the logits are read once. Else once more for the draw, which is all with a top-k up to 64;
// three times more for a larger top-k, three times more for a top-p without a small top-k, and once more for
// logprobs; once more for a batch that has both logprobs and adjustments or masks.

#include <cstdint>
#include <span>

#include "core/ops.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

struct SamplePlan;

// One lane's: not thread-safe.
class DeviceSampler {
 public:
  DeviceSampler(int vocab, int maxRows);

  // logits [requests, vocab] on the device, which are changed. Waits for the outcomes. Throws Error if logits
  // are NaN or infinite or leave no token, or if a token lies outside them.
  void sample(float* logits, std::span<const SampleRequest> requests, std::span<SampleOutcome> outcomes,
              Stream stream);

  // ln p of each row's target (where >= 0) and of its k best, 64 at most.
  void logprobs(const float* logits, std::span<const std::int32_t> targets, int k,
                std::span<SampleOutcome> outcomes, Stream stream);

 private:
  struct Results;

  void run(const SamplePlan& plan, const float* logits, float* adjustable, std::span<SampleOutcome> outcomes,
           Stream stream);
  void upload(const SamplePlan& plan, Stream stream);
  void enqueue(const SamplePlan& plan, const float* logits, float* adjustable, const Results& results,
               Stream stream) const;
  static void report(const SamplePlan& plan, const Results& results, std::span<SampleOutcome> outcomes);

  int vocab_;
  int maxRows_;
  DeviceMemory scratch_;  // what the kernels tell each other
  PinnedMemory plan_;
  DeviceMemory uploaded_;
  DeviceMemory unadjusted_;
  DeviceMemory results_;
  PinnedMemory downloaded_;
};

}  // namespace tandem::cuda
