#pragma once

// Draws one token from one row of logits.
//
// The order is vLLM's and Hugging Face's: penalties, logit bias, suppressed and not allowed tokens; then at
// temperature 0 the best token, else temperature, top-k, top-p, min-p, and a draw among what is left in the
// order of token ids.

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cpu/sampling/row-kernels.h"
#include "cpu/sampling/select.h"

namespace tandem::cpu {

// One thread's scratch memory.
class Sampler {
 public:
  explicit Sampler(const RowKernels& kernels) : kernels_(kernels) {}

  // Changes the logits. Throws Error if they hold NaN or infinity, leave no token, or a token lies outside
  // them.
  SampleOutcome sample(std::span<float> logits, const SampleRequest& request);

  // ln p of `target` (where >= 0) and of the k best.
  SampleOutcome logprobs(std::span<const float> logits, std::int32_t target, int k);

 private:
  struct Distribution {
    float highest;
    double logTotal;  // ln of the sum of exp(x - highest)
    float lnP(float logit) const;
  };

  // What the request makes of the logits before one is drawn, in place.
  void adjust(std::span<float> logits, const SampleRequest& request);
  float highestOf(std::span<const float> logits);
  Distribution measure(std::span<const float> logits);
  void reportBest(std::span<const float> logits, const Distribution& all, int k, SampleOutcome& outcome);
  std::int32_t draw(std::span<const float> logits, const SampleParams& params, double uniform);
  Candidate nucleusOfCandidates(float topP, float highest, float scale) const;
  Candidate nucleusOfAll(std::span<const float> logits, float topP, float highest, float scale);
  std::int32_t drawUpTo(std::span<const float> logits, const Candidate& worst, float highest, float scale,
                        double uniform);

  RowKernels kernels_;
  std::vector<float> weights_;
  std::vector<float> unmodified_;
  std::vector<double> blockSums_;
  std::vector<double> bins_;
  std::vector<Candidate> candidates_;
};

}  // namespace tandem::cpu
