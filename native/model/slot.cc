#include "model/slot.h"

#include <utility>

namespace tandem {

Slot::Slot(SlotOptions options)
    : options_(std::move(options)), generated_(static_cast<std::int64_t>(options_.generatedTokens.size())) {
  const SampleParams& params = options_.params;
  penalized_ = params.presencePenalty != 0 || params.frequencyPenalty != 0 || params.repetitionPenalty != 1;
  if (options_.grammar) {
    matcher_.emplace(options_.grammar, options_.shownTokens);
    for (const std::int32_t token : options_.generatedTokens) matcher_->accept(token);
  }
  if (!penalized_) return;
  for (const std::int32_t token : options_.promptTokens) count(token, 0);
  for (const std::int32_t token : options_.generatedTokens) count(token, 1);
}

SampleRequest Slot::request(std::int64_t position, std::int32_t carried) {
  SampleRequest request{&options_.params, position, seen_, {}};
  if (penalized_) request.carried = carried;
  const std::int64_t generated = generated_ + (carried >= 0 ? 1 : 0);
  if (generated < options_.minTokens) request.suppressed = options_.suppressedBelowMin;
  if (matcher_) {
    // Where a grammar has come to its end, the end is all there is, also below the minimum.
    request.allowed = matcher_->allowed(request.suppressed);
    request.suppressed = {};
  }
  return request;
}

void Slot::accept(std::int32_t token) {
  lastToken_ = token;
  ++generated_;
  if (matcher_) matcher_->accept(token);
  if (penalized_) count(token, 1);
}

void Slot::count(std::int32_t token, int generated) {
  const auto [entry, isNew] = seenAt_.try_emplace(token, seen_.size());
  if (isNew) seen_.push_back({token, 0});
  seen_[entry->second].inOutput += generated;
}

}  // namespace tandem
