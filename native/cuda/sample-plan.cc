#include "cuda/sample-plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace tandem::cuda {
namespace {

// For 0 <= part < 1. Exact for floats of 2^-40 and more, and for the numbers that `uniform` gives.
std::uint64_t ofTwoTo64(double part) { return static_cast<std::uint64_t>(part * 0x1p64); }

int reported(int k, int vocab) {
  if (k > kMaxBest) {
    throw Error("log probabilities of the " + std::to_string(k) +
                " most likely tokens are wanted; on a GPU there are up to " + std::to_string(kMaxBest));
  }
  return std::clamp(k, 0, vocab);
}

class Planner {
 public:
  explicit Planner(int vocab) : vocab_(vocab) {}

  void add(const SampleRequest& request) {
    const auto number = static_cast<std::int32_t>(plan_.rows.size());
    const SampleParams& params = *request.params;
    SampleRow& row = plan_.rows.emplace_back();
    if (params.logprobs >= 0) {
      row.best = reported(params.logprobs, vocab_);
      plan_.of(SampleList::measured).push_back(number);
    }
    row.repetition = params.repetitionPenalty;
    row.frequency = params.frequencyPenalty;
    row.presence = params.presencePenalty;
    row.adjustments = adjust(request);
    if (request.carried >= 0) {
      row.carried = request.carried;
      plan_.of(SampleList::carried).push_back(number);
    }
    if (row.adjustments.end > row.adjustments.seen) plan_.of(SampleList::adjusted).push_back(number);
    if (!request.allowed.empty()) {
      row.mask = addMask(request.allowed);
      plan_.of(SampleList::masked).push_back(number);
    }
    if (params.temperature <= 0) return;

    row.uniform = ofTwoTo64(uniform(params.seed, static_cast<std::uint64_t>(request.position)));
    // A temperature so small that its inverse overflows leaves the best tokens only: 0 * scale stays 0.
    row.scale = std::min(1 / params.temperature, std::numeric_limits<float>::max());
    row.minP = params.minP > 0 ? params.temperature * std::log(params.minP)
                               : -std::numeric_limits<float>::infinity();
    if (params.topK > 0 && params.topK < vocab_) row.topK = static_cast<std::uint32_t>(params.topK);
    // The best token stays, however small top-p is.
    if (params.topP < 1) row.topP = std::max<std::uint64_t>(1, ofTwoTo64(std::max(0.0f, params.topP)));
    if (row.topK != 0 && row.topK <= kMaxBest) {
      plan_.of(SampleList::listed).push_back(number);
      return;
    }
    if (row.topK != 0) plan_.of(SampleList::counted).push_back(number);
    if (row.topP != 0) plan_.of(SampleList::weighed).push_back(number);
    plan_.of(SampleList::drawn).push_back(number);
  }

  void addScored(std::int32_t target, int k) {
    check(target < vocab_, "logprobs: a token is outside the vocabulary");
    plan_.of(SampleList::measured).push_back(static_cast<std::int32_t>(plan_.rows.size()));
    SampleRow& row = plan_.rows.emplace_back();
    row.best = reported(k, vocab_);
    row.target = target;
  }

  SamplePlan take() { return std::move(plan_); }

 private:
  AdjustmentRange adjust(const SampleRequest& request) {
    std::vector<Adjustment>& adjustments = plan_.adjustments;
    const auto end = [&] { return static_cast<std::uint32_t>(adjustments.size()); };
    const auto put = [&](std::int32_t token, float value, const char* what) {
      if (token < 0 || token >= vocab_) {
        throw Error("token " + std::to_string(token) + " of the " + what + " is outside the vocabulary of " +
                    std::to_string(vocab_));
      }
      adjustments.push_back({token, value});
    };
    AdjustmentRange range;
    range.seen = end();
    for (const TokenCount& seen : request.seen) {
      put(seen.token, static_cast<float>(seen.inOutput), "penalties");
    }
    if (request.carried >= 0) adjustments.push_back({kUnknownToken, 1});
    range.bias = end();
    for (const auto& [token, value] : request.params->bias) put(token, value, "logit bias");
    std::stable_sort(adjustments.begin() + range.bias, adjustments.end(),
                     [](const Adjustment& a, const Adjustment& b) { return a.token < b.token; });
    range.suppressed = end();
    for (const std::int32_t token : request.suppressed) put(token, 0, "suppressed tokens");
    range.end = end();
    return range;
  }

  std::int32_t addMask(std::span<const std::uint32_t> mask) {
    const auto words = static_cast<std::size_t>(sampleMaskWords(vocab_));
    check(mask.size() == words, "a mask of allowed tokens does not fit the vocabulary");
    const auto number = static_cast<std::int32_t>(plan_.masks.size() / words);
    plan_.masks.insert(plan_.masks.end(), mask.begin(), mask.end());
    return number;
  }

  int vocab_;
  SamplePlan plan_;
};

}  // namespace

bool SamplePlan::onlyGreedy() const {
  return std::all_of(lists.begin(), lists.end(), [](const auto& rows) { return rows.empty(); });
}

bool SamplePlan::measuresApart() const {
  const bool changed = !of(SampleList::adjusted).empty() || !of(SampleList::masked).empty();
  return changed && !of(SampleList::measured).empty();
}

int SamplePlan::mostBest() const {
  int most = 0;
  for (const SampleRow& row : rows) most = std::max(most, row.best);
  return most;
}

SamplePlan planSamples(std::span<const SampleRequest> requests, int vocab) {
  Planner planner(vocab);
  for (const SampleRequest& request : requests) planner.add(request);
  return planner.take();
}

SamplePlan planLogprobs(std::span<const std::int32_t> targets, int k, int vocab) {
  Planner planner(vocab);
  for (const std::int32_t target : targets) planner.addScored(target, k);
  return planner.take();
}

}  // namespace tandem::cuda
