#include "cuda/sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/argmax.h"
#include "cuda/sample-kernels.h"

namespace tandem::cuda {
namespace {

constexpr const char* kSamplingPurpose = "sampling";
constexpr std::size_t kFirstUpload = std::size_t{64} << 10;  // bytes; grows where many tokens are adjusted

// Divides a block of memory into arrays; with none, says how much they need.
class Divider {
 public:
  explicit Divider(std::byte* block) : block_(block) {}

  template <class T>
  T* take(std::size_t count) {
    constexpr std::size_t kAlignment = 16;
    T* array = block_ ? reinterpret_cast<T*>(block_ + used_) : nullptr;
    used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* block_;
  std::size_t used_ = 0;
};

// What a call downloads, on the device and on the host. The tokens come first in every call: DeviceSampler's
// `tokens`.
struct Results {
  std::int32_t* tokens;
  float* highest;
  std::int32_t* unadjustedTokens;
  float* unadjustedHighest;
  std::uint64_t* totals;
  float* wanted;
  BestToken* best;
  std::size_t bytes;

  Results(std::byte* block, std::size_t rows, int bestStride) {
    Divider divider(block);
    tokens = divider.take<std::int32_t>(rows);
    highest = divider.take<float>(rows);
    unadjustedTokens = divider.take<std::int32_t>(rows);
    unadjustedHighest = divider.take<float>(rows);
    totals = divider.take<std::uint64_t>(rows);
    wanted = divider.take<float>(rows);
    best = divider.take<BestToken>(rows * static_cast<std::size_t>(bestStride));
    bytes = divider.used();
  }
};

// What the kernels of a call tell each other.
struct Scratch {
  std::uint32_t* arrived;
  std::uint64_t* bins;
  std::size_t zeroBytes;  // at the block's beginning
  std::uint64_t* highestOfParts;
  std::uint64_t* partBest;
  std::uint64_t* partSums;
  std::uint32_t* partEquals;
  SampleLimit* limits;
  SampleSearch* searches;
  std::size_t bytes;

  Scratch(std::byte* block, int maxRows, int vocab) {
    const auto rows = static_cast<std::size_t>(maxRows);
    const std::size_t parts = rows * static_cast<std::size_t>(samplePartsOf(vocab));
    Divider divider(block);
    arrived = divider.take<std::uint32_t>(rows);
    bins = divider.take<std::uint64_t>(rows * kSearchBins);
    zeroBytes = divider.used();
    highestOfParts = divider.take<std::uint64_t>(argmaxScratch(maxRows, vocab) / sizeof(std::uint64_t));
    partBest = divider.take<std::uint64_t>(parts * kMaxBest);
    partSums = divider.take<std::uint64_t>(parts);
    partEquals = divider.take<std::uint32_t>(parts);
    limits = divider.take<SampleLimit>(rows);
    searches = divider.take<SampleSearch>(rows);
    bytes = divider.used();
  }
};

// What a call uploads, on the device and on the host.
struct Upload {
  SampleRow* rows;
  Adjustment* adjustments;
  std::uint32_t* masks;
  std::int32_t* lists;
  std::size_t bytes;

  Upload(std::byte* block, const SamplePlan& plan) {
    Divider divider(block);
    rows = divider.take<SampleRow>(plan.rows.size());
    adjustments = divider.take<Adjustment>(plan.adjustments.size());
    masks = divider.take<std::uint32_t>(plan.masks.size());
    std::size_t listed = 0;
    for (const auto& list : plan.lists) listed += list.size();
    lists = divider.take<std::int32_t>(listed);
    bytes = divider.used();
  }
};

template <class T>
T* append(T* to, const std::vector<T>& values) {
  return std::copy(values.begin(), values.end(), to);
}

template <class Memory>
void makeRoom(Memory& memory, std::size_t bytes) {
  if (memory.bytes() < bytes) memory = Memory(std::max(bytes, 2 * memory.bytes()), kSamplingPurpose);
}

void checkFound(std::int32_t token) {
  check(token != kNanLogits, "the model produced NaN logits");
  check(token != kInfiniteLogits, "the model produced infinite logits");
  check(token != kNoLogits, "no token may be drawn: every one is suppressed or not allowed");
}

}  // namespace

DeviceSampler::DeviceSampler(int vocab, int maxRows) : vocab_(vocab), maxRows_(maxRows) {
  check(vocab > 0 && maxRows > 0, "sampling: a vocabulary and at least one row expected");
  if (vocab > kMaxSampleVocab) {
    throw Error("a CUDA device samples from vocabularies of up to " + std::to_string(kMaxSampleVocab) +
                " tokens, and this one has " + std::to_string(vocab));
  }
  const Scratch scratch(nullptr, maxRows, vocab);
  scratch_ = DeviceMemory(scratch.bytes, kSamplingPurpose);
  resultBytes_ = Results(nullptr, static_cast<std::size_t>(maxRows), kMaxBest).bytes;
  results_ = DeviceMemory(resultBytes_, kSamplingPurpose);
  setBytes(scratch_.data(), 0, scratch.zeroBytes, nullptr);
  synchronize(nullptr);
}

void DeviceSampler::sample(float* logits, std::span<const SampleRequest> requests,
                           std::span<SampleOutcome> outcomes, SampleTransfer& transfer, Stream stream) {
  run(planSamples(requests, vocab_), logits, logits, outcomes, transfer, stream);
}

void DeviceSampler::sample(float* logits, std::span<const SampleRequest> requests,
                           std::span<SampleOutcome> outcomes, Stream stream) {
  sample(logits, requests, outcomes, own_, stream);
  wait(stream);
}

void DeviceSampler::logprobs(const float* logits, std::span<const std::int32_t> targets, int k,
                             std::span<SampleOutcome> outcomes, Stream stream) {
  run(planLogprobs(targets, k, vocab_), logits, nullptr, outcomes, own_, stream);
  wait(stream);
  for (std::size_t row = 0; row < targets.size(); ++row) {
    outcomes[row].token = targets[row] >= 0 ? targets[row] : -1;
    if (targets[row] < 0) outcomes[row].logprob = 0;
  }
}

void DeviceSampler::run(SamplePlan plan, const float* logits, float* adjustable,
                        std::span<SampleOutcome> outcomes, SampleTransfer& transfer, Stream stream) {
  const std::size_t rows = plan.rows.size();
  if (rows > static_cast<std::size_t>(maxRows_)) {
    throw Error("sampling: up to " + std::to_string(maxRows_) + " rows are taken, and there are " +
                std::to_string(rows));
  }
  check(rows == outcomes.size(), "sampling: one outcome for each row expected");
  check(!transfer.isPending(), "sampling: the call before has not been reported");
  if (rows == 0) return;
  transfer.plan_ = std::move(plan);
  upload(transfer, stream);
  enqueue(transfer.plan_, logits, adjustable, stream);
  const Results results(results_.data(), rows, transfer.plan_.mostBest());
  const std::size_t bytes = transfer.plan_.onlyGreedy() ? rows * sizeof(std::int32_t) : results.bytes;
  copyToHost(transfer.down_.data(), results_.data(), bytes, stream);
  transfer.outcomes_ = outcomes;
}

void DeviceSampler::wait(Stream stream) {
  if (!own_.isPending()) return;
  try {
    synchronize(stream);
  } catch (...) {
    own_.forget();
    throw;
  }
  own_.report();
}

void DeviceSampler::upload(SampleTransfer& transfer, Stream stream) {
  const SamplePlan& plan = transfer.plan_;
  const std::size_t bytes = Upload(nullptr, plan).bytes;
  makeRoom(transfer.up_, std::max(bytes, kFirstUpload));
  makeRoom(transfer.down_, resultBytes_);
  makeRoom(uploaded_, std::max(bytes, kFirstUpload));
  makeRoom(unadjusted_, std::max(plan.adjustments.size() * sizeof(float), kFirstUpload));
  if (plan.onlyGreedy()) return;
  const Upload host(transfer.up_.data(), plan);
  append(host.rows, plan.rows);
  append(host.adjustments, plan.adjustments);
  append(host.masks, plan.masks);
  std::int32_t* end = host.lists;
  for (const auto& list : plan.lists) end = append(end, list);
  copyToDevice(uploaded_.data(), transfer.up_.data(), bytes, stream);
}

void DeviceSampler::enqueue(const SamplePlan& plan, const float* logits, float* adjustable,
                            Stream stream) const {
  const Upload uploaded(uploaded_.data(), plan);
  const Results results(results_.data(), plan.rows.size(), plan.mostBest());
  const auto rowsOf = [&](SampleList list) {
    const std::int32_t* begin = uploaded.lists;
    for (std::size_t i = 0; i < static_cast<std::size_t>(list); ++i) begin += plan.lists[i].size();
    return SampleRows{begin, static_cast<int>(plan.of(list).size())};
  };
  const Scratch scratch(scratch_.data(), maxRows_, vocab_);
  SampleStep step;
  step.logits = logits;
  step.vocab = vocab_;
  step.rows = uploaded.rows;
  step.adjustments = uploaded.adjustments;
  step.masks = uploaded.masks;
  step.tokens = results.tokens;
  step.highest = results.highest;
  step.totals = results.totals;
  step.best = results.best;
  step.bestStride = plan.mostBest();
  step.wanted = results.wanted;
  step.arrived = scratch.arrived;
  step.bins = scratch.bins;
  step.partBest = scratch.partBest;
  step.partSums = scratch.partSums;
  step.partEquals = scratch.partEquals;
  step.limits = scratch.limits;
  step.searches = scratch.searches;
  step.unadjusted = unadjusted_.as<float>();

  const auto findHighest = [&](const SampleStep& of) {
    argmax({of.logits, scratch.highestOfParts, of.tokens, static_cast<std::int64_t>(plan.rows.size()), vocab_,
            of.highest},
           stream);
  };
  // Before anything takes the place of the tokens of the call before.
  countCarried(step, uploaded.adjustments, rowsOf(SampleList::carried), stream);
  const SampleRows measured = rowsOf(SampleList::measured);
  if (plan.measuresApart()) {
    SampleStep unadjusted = step;
    unadjusted.tokens = results.unadjustedTokens;
    unadjusted.highest = results.unadjustedHighest;
    findHighest(unadjusted);
    measureRows(unadjusted, measured, stream);
  }
  adjustLogits(step, adjustable, rowsOf(SampleList::adjusted), stream);
  keepAllowed(step, adjustable, rowsOf(SampleList::masked), stream);
  findHighest(step);
  if (!plan.measuresApart()) measureRows(step, measured, stream);
  drawAmongBest(step, rowsOf(SampleList::listed), stream);
  limitCount(step, rowsOf(SampleList::counted), stream);
  limitWeight(step, rowsOf(SampleList::weighed), stream);
  drawWithinLimits(step, rowsOf(SampleList::drawn), stream);
  readLogits(step, measured, stream);
}

void SampleTransfer::report() {
  const std::span<SampleOutcome> outcomes = std::exchange(outcomes_, {});
  const Results results(down_.data(), outcomes.size(), plan_.mostBest());
  const bool apart = plan_.measuresApart();
  const std::vector<std::int32_t>& measured = plan_.of(SampleList::measured);
  if (apart) {
    for (const std::int32_t row : measured) checkFound(results.unadjustedTokens[row]);
  }
  for (std::size_t row = 0; row < outcomes.size(); ++row) {
    checkFound(results.tokens[row]);
    outcomes[row] = {};
    outcomes[row].token = results.tokens[row];
  }
  for (const std::int32_t row : measured) {
    const double highest = apart ? results.unadjustedHighest[row] : results.highest[row];
    const double logTotal = std::log(std::ldexp(static_cast<double>(results.totals[row]), -kWeightBits));
    const auto lnP = [&](float logit) {
      return static_cast<float>(static_cast<double>(logit) - highest - logTotal);
    };
    SampleOutcome& outcome = outcomes[row];
    outcome.logprob = lnP(results.wanted[row]);
    const BestToken* best = results.best + std::ptrdiff_t{row} * plan_.mostBest();
    for (int i = 0; i < plan_.rows[row].best; ++i) {
      outcome.topTokens.push_back(best[i].token);
      outcome.topLogprobs.push_back(lnP(best[i].logit));
    }
  }
}

}  // namespace tandem::cuda
