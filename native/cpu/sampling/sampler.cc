#include "cpu/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "cpu/sampling/adjust.h"
#include "cpu/sampling/random.h"

namespace tandem::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Tokens whose weights are summed together on the way to the drawn one.
constexpr std::size_t kDrawBlock = 4096;

// Candidates tried first when top-p alone limits them. Real distributions rarely need more.
constexpr std::size_t kFirstNucleus = 256;

}  // namespace

float Sampler::highestOf(std::span<const float> logits) {
  bool nan = false;
  const float highest = kernels_.highest(logits.data(), logits.size(), &nan);
  check(!nan, "the model produced NaN logits");
  check(highest < kInfinity, "the model produced infinite logits");
  check(highest > -kInfinity, "no token may be drawn: every one is suppressed");
  return highest;
}

Sampler::Distribution Sampler::measure(std::span<const float> logits) {
  const float highest = highestOf(logits);
  weights_.resize(std::max(weights_.size(), logits.size()));
  const double total =
      kernels_.exponentials(logits.data(), logits.size(), highest, 1, -kInfinity, weights_.data());
  return {highest, std::log(total)};
}

float Sampler::Distribution::lnP(float logit) const {
  return static_cast<float>(static_cast<double>(logit) - highest - logTotal);
}

void Sampler::reportBest(std::span<const float> logits, const Distribution& all, int k,
                         SampleOutcome& outcome) {
  if (k <= 0) return;
  selectBest(kernels_, logits, static_cast<std::size_t>(k), candidates_);
  for (const Candidate& candidate : candidates_) {
    outcome.topTokens.push_back(candidate.token);
    outcome.topLogprobs.push_back(all.lnP(candidate.value));
  }
}

SampleOutcome Sampler::logprobs(std::span<const float> logits, std::int32_t target, int k) {
  const Distribution all = measure(logits);
  SampleOutcome outcome;
  if (target >= 0) {
    check(static_cast<std::size_t>(target) < logits.size(), "logprobs: a token is outside the vocabulary");
    outcome.token = target;
    outcome.logprob = all.lnP(logits[target]);
  }
  reportBest(logits, all, k, outcome);
  return outcome;
}

SampleOutcome Sampler::sample(std::span<float> logits, const SampleRequest& request) {
  const SampleParams& params = *request.params;
  const double u = uniform(params.seed, static_cast<std::uint64_t>(request.position));
  SampleOutcome outcome;
  if (params.logprobs < 0) {
    adjustLogits(logits, request);
    outcome.token = draw(logits, params, u);
    return outcome;
  }
  // Logprobs are of the unmodified distribution.
  const Distribution all = measure(logits);
  reportBest(logits, all, params.logprobs, outcome);
  unmodified_.assign(logits.begin(), logits.end());
  adjustLogits(logits, request);
  outcome.token = draw(logits, params, u);
  outcome.logprob = all.lnP(unmodified_[outcome.token]);
  return outcome;
}

std::int32_t Sampler::draw(std::span<const float> logits, const SampleParams& params, double uniform) {
  const float highest = highestOf(logits);
  if (params.temperature <= 0) {
    return static_cast<std::int32_t>(kernels_.find(logits.data(), logits.size(), highest));
  }
  // A temperature so small that its inverse overflows leaves the best tokens only: 0 * scale stays 0.
  const float scale = std::min(1 / params.temperature, std::numeric_limits<float>::max());
  const float floor = params.minP > 0 ? highest + params.temperature * std::log(params.minP) : -kInfinity;
  const bool limited =
      params.topP < 1 || (params.topK > 0 && static_cast<std::size_t>(params.topK) < logits.size());
  if (!limited) return drawFromAll(logits, highest, scale, floor, uniform);

  std::size_t count = nucleus(logits, params, highest, scale);
  while (count > 1 && candidates_[count - 1].value < floor) --count;
  return drawFromCandidates(count, highest, scale, uniform);
}

// Fills candidates_ with the best tokens and returns how many of them pass top-k and top-p: the fewest whose
// probabilities reach top-p, one at least.
std::size_t Sampler::nucleus(std::span<const float> logits, const SampleParams& params, float highest,
                             float scale) {
  const bool topK = params.topK > 0 && static_cast<std::size_t>(params.topK) < logits.size();
  const auto weigh = [&](const Candidate& candidate) {
    return std::exp(static_cast<double>((candidate.value - highest) * scale));
  };
  if (topK) selectBest(kernels_, logits, static_cast<std::size_t>(params.topK), candidates_);
  if (params.topP >= 1) return candidates_.size();

  double total = 0;
  if (topK) {
    for (const Candidate& candidate : candidates_) total += weigh(candidate);
  } else {
    weights_.resize(std::max(weights_.size(), logits.size()));
    total = kernels_.exponentials(logits.data(), logits.size(), highest, scale, -kInfinity, weights_.data());
  }
  const double enough = static_cast<double>(params.topP) * total;
  for (std::size_t tried = kFirstNucleus;; tried *= 8) {
    if (!topK) selectBest(kernels_, logits, tried, candidates_);
    double sum = 0;
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      sum += weigh(candidates_[i]);
      if (sum >= enough) return i + 1;
    }
    if (topK || candidates_.size() == logits.size()) return candidates_.size();
  }
}

std::int32_t Sampler::drawFromAll(std::span<const float> logits, float highest, float scale, float floor,
                                  double uniform) {
  weights_.resize(std::max(weights_.size(), logits.size()));
  double total = 0;
  blockSums_.clear();
  for (std::size_t begin = 0; begin < logits.size(); begin += kDrawBlock) {
    const std::size_t count = std::min(kDrawBlock, logits.size() - begin);
    blockSums_.push_back(
        kernels_.exponentials(logits.data() + begin, count, highest, scale, floor, weights_.data() + begin));
    total += blockSums_.back();
  }
  double left = uniform * total;
  std::size_t block = 0;
  while (block + 1 < blockSums_.size() && left >= blockSums_[block]) left -= blockSums_[block++];
  std::int32_t last = -1;
  const std::size_t end = std::min(logits.size(), (block + 1) * kDrawBlock);
  for (std::size_t token = block * kDrawBlock; token < end; ++token) {
    if (weights_[token] <= 0) continue;
    last = static_cast<std::int32_t>(token);
    left -= weights_[token];
    if (left < 0) return last;
  }
  if (last >= 0) return last;
  // Rounding carried the draw into a last block without weight.
  for (std::size_t token = block * kDrawBlock; token-- > 0;) {
    if (weights_[token] > 0) return static_cast<std::int32_t>(token);
  }
  throw Error("no token may be drawn: every one is suppressed");
}

std::int32_t Sampler::drawFromCandidates(std::size_t count, float highest, float scale, double uniform) {
  candidates_.resize(count);
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  double total = 0;
  for (Candidate& candidate : candidates_) {
    candidate.value = std::exp((candidate.value - highest) * scale);
    total += candidate.value;
  }
  double left = uniform * total;
  std::int32_t last = -1;
  for (const Candidate& candidate : candidates_) {
    if (candidate.value <= 0) continue;
    last = candidate.token;
    left -= candidate.value;
    if (left < 0) return last;
  }
  return last;
}

}  // namespace tandem::cpu
