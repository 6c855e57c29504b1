#include "cpu/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "cpu/sampling/adjust.h"

namespace tandem::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Tokens whose weights are summed together on the way to the drawn one.
constexpr std::size_t kDrawBlock = 4096;

// Candidates tried first when top-p alone limits them. A model that knows what comes next rarely needs more.
constexpr std::size_t kFirstNucleus = 256;

// Else tokens are counted by how far they are behind the best, in steps of 1/16 of a factor e, up to a factor
// e^64.
constexpr int kBins = 1024;
constexpr float kBinsPerNat = 16;

int binOf(float behind) { return static_cast<int>(std::min(behind * kBinsPerNat, kBins - 1.0f)); }

}  // namespace

void Sampler::adjust(std::span<float> logits, const SampleRequest& request) {
  adjustLogits(logits, request);
  if (request.allowed.empty()) return;
  check(request.allowed.size() == (logits.size() + 31) / 32,
        "a mask of allowed tokens does not fit the vocabulary");
  kernels_.keepAllowed(logits.data(), logits.size(), request.allowed.data());
}

float Sampler::highestOf(std::span<const float> logits) {
  bool nan = false;
  const float highest = kernels_.highest(logits.data(), logits.size(), &nan);
  check(!nan, "the model produced NaN logits");
  check(highest < kInfinity, "the model produced infinite logits");
  check(highest > -kInfinity, "no token may be drawn: every one is suppressed or not allowed");
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
    adjust(logits, request);
    outcome.token = draw(logits, params, u);
    return outcome;
  }
  // Logprobs are of the unmodified distribution.
  const Distribution all = measure(logits);
  reportBest(logits, all, params.logprobs, outcome);
  unmodified_.assign(logits.begin(), logits.end());
  adjust(logits, request);
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

  // Every limit keeps the best tokens down to some worst one.
  Candidate worst{-kInfinity, std::numeric_limits<std::int32_t>::max()};
  const bool topK = params.topK > 0 && static_cast<std::size_t>(params.topK) < logits.size();
  if (topK) {
    selectBest(kernels_, logits, static_cast<std::size_t>(params.topK), candidates_);
    worst = candidates_.back();
  }
  if (params.topP < 1) {
    worst = topK ? nucleusOfCandidates(params.topP, highest, scale)
                 : nucleusOfAll(logits, params.topP, highest, scale);
  }
  if (params.minP > 0) {
    const Candidate floor{highest + params.temperature * std::log(params.minP),
                          std::numeric_limits<std::int32_t>::max()};
    if (floor.value > worst.value) worst = floor;
  }
  return drawUpTo(logits, worst, highest, scale, uniform);
}

// The last of the fewest candidates whose probabilities, among all candidates, reach top-p.
Candidate Sampler::nucleusOfCandidates(float topP, float highest, float scale) const {
  const auto weigh = [&](const Candidate& candidate) {
    return std::exp(static_cast<double>((candidate.value - highest) * scale));
  };
  double total = 0;
  for (const Candidate& candidate : candidates_) total += weigh(candidate);
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += weigh(candidate);
    if (sum >= topP * total) return candidate;
  }
  return candidates_.back();
}

Candidate Sampler::nucleusOfAll(std::span<const float> logits, float topP, float highest, float scale) {
  weights_.resize(std::max(weights_.size(), logits.size()));
  const double total =
      kernels_.exponentials(logits.data(), logits.size(), highest, scale, -kInfinity, weights_.data());
  const double enough = topP * total;
  double sum = 0;
  const auto lastNeeded = [&] {
    for (const Candidate& candidate : candidates_) {
      sum += weights_[candidate.token];
      if (sum >= enough) return candidate;
    }
    return candidates_.back();
  };
  selectBest(kernels_, logits, kFirstNucleus, candidates_);
  const Candidate last = lastNeeded();
  if (sum >= enough || candidates_.size() == logits.size()) return last;

  bins_.assign(kBins, 0.0);
  for (std::size_t token = 0; token < logits.size(); ++token) {
    if (weights_[token] > 0) bins_[binOf((highest - logits[token]) * scale)] += weights_[token];
  }
  int bin = 0;
  for (sum = 0; bin + 1 < kBins && sum + bins_[bin] < enough; ++bin) sum += bins_[bin];
  // Rounding may leave the end short of enough: then the last bin that holds anything decides.
  for (; bin > 0 && bins_[bin] == 0; --bin) sum -= bins_[bin - 1];
  candidates_.clear();
  for (std::size_t token = 0; token < logits.size(); ++token) {
    if (weights_[token] > 0 && binOf((highest - logits[token]) * scale) == bin) {
      candidates_.push_back({logits[token], static_cast<std::int32_t>(token)});
    }
  }
  std::sort(candidates_.begin(), candidates_.end(), better);
  return lastNeeded();
}

// Inverse of the cumulative distribution over the tokens not worse than `worst`, in the order of their ids.
std::int32_t Sampler::drawUpTo(std::span<const float> logits, const Candidate& worst, float highest,
                               float scale, double uniform) {
  weights_.resize(std::max(weights_.size(), logits.size()));
  blockSums_.clear();
  double total = 0;
  for (std::size_t begin = 0; begin < logits.size(); begin += kDrawBlock) {
    const std::size_t end = std::min(logits.size(), begin + kDrawBlock);
    double sum = kernels_.exponentials(logits.data() + begin, end - begin, highest, scale, worst.value,
                                       weights_.data() + begin);
    // Equals of the worst with higher ids are out.
    std::size_t token = std::max(begin, static_cast<std::size_t>(worst.token) + 1);
    while (token < end && (token += kernels_.find(logits.data() + token, end - token, worst.value)) < end) {
      sum -= weights_[token];
      weights_[token++] = 0;
    }
    blockSums_.push_back(sum);
    total += sum;
  }
  double left = uniform * total;
  std::size_t block = 0;
  while (block + 1 < blockSums_.size() && left >= blockSums_[block]) left -= blockSums_[block++];
  const std::size_t end = std::min(logits.size(), (block + 1) * kDrawBlock);
  for (std::size_t token = block * kDrawBlock; token < end; ++token) {
    left -= weights_[token];
    if (left < 0 && weights_[token] > 0) return static_cast<std::int32_t>(token);
  }
  // Rounding carried the draw past the end: the last token that has weight. The best one has, so there is
  // one.
  for (std::size_t token = end; token-- > 0;) {
    if (weights_[token] > 0) return static_cast<std::int32_t>(token);
  }
  throw Error("no token may be drawn: every one is suppressed or not allowed");
}

}  // namespace tandem::cpu
