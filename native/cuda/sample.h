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
#include "cuda/sample-plan.h"

namespace tandem::cuda {

// A call's plan and its results on the host, which belong to the device until what was enqueued is done.
class SampleTransfer {
 public:
  bool isPending() const { return !outcomes_.empty(); }
  // Once the device is done: fills in the outcomes. Throws Error if logits were NaN or infinite or left no
  // token.
  void report();
  // The outcomes are no longer wanted.
  void forget() { outcomes_ = {}; }

 private:
  friend class DeviceSampler;

  SamplePlan plan_;
  PinnedMemory up_, down_;
  std::span<SampleOutcome> outcomes_;
};

// One lane's: not thread-safe.
class DeviceSampler {
 public:
  DeviceSampler(int vocab, int maxRows);

  // logits [requests, vocab] on the device, which are changed. Enqueues; the outcomes are there once the
  // stream has been waited for and `transfer` reports. Throws Error if a token lies outside the vocabulary.
  void sample(float* logits, std::span<const SampleRequest> requests, std::span<SampleOutcome> outcomes,
              SampleTransfer& transfer, Stream stream);

  // The same; waits for the outcomes.
  void sample(float* logits, std::span<const SampleRequest> requests, std::span<SampleOutcome> outcomes,
              Stream stream);

  // ln p of each row's target (where >= 0) and of its k best, 64 at most. Waits for the outcomes.
  void logprobs(const float* logits, std::span<const std::int32_t> targets, int k,
                std::span<SampleOutcome> outcomes, Stream stream);

  // On the device: the token of each request of the last call, for what is enqueued before the next one;
  // below 0 where none could be drawn.
  const std::int32_t* tokens() const { return results_.as<std::int32_t>(); }

 private:
  void run(SamplePlan plan, const float* logits, float* adjustable, std::span<SampleOutcome> outcomes,
           SampleTransfer& transfer, Stream stream);
  void wait(Stream stream);
  void upload(SampleTransfer& transfer, Stream stream);
  void enqueue(const SamplePlan& plan, const float* logits, float* adjustable, Stream stream) const;

  int vocab_;
  int maxRows_;
  std::size_t resultBytes_;
  DeviceMemory scratch_;  // what the kernels tell each other
  DeviceMemory uploaded_;
  DeviceMemory unadjusted_;
  DeviceMemory results_;
  SampleTransfer own_;  // of calls that wait
};

}  // namespace tandem::cuda
