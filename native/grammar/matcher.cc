#include "grammar/matcher.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace tandem {
namespace {

std::int32_t copied(std::int32_t stack, const Stacks& from, Stacks& to) {
  std::vector<std::int32_t> states;
  for (; stack >= 0; stack = from[stack].below) states.push_back(from[stack].state);
  std::int32_t copy = -1;
  for (auto state = states.rbegin(); state != states.rend(); ++state) copy = to.push(*state, copy);
  return copy;
}

}  // namespace

GrammarMatcher::GrammarMatcher(std::shared_ptr<Grammar> grammar, std::vector<std::int32_t> shown)
    : grammar_(std::move(grammar)), shown_(std::move(shown)) {
  grammar_->automaton().enter(places_, stacks_, grammar_->automaton().start());
}

void GrammarMatcher::accept(std::int32_t token) {
  if (places_.ended && grammar_->vocabulary().isEnd(token)) {
    done_ = true;
    return;
  }
  const auto bytes = grammar_->vocabulary().bytesOf(token);
  if (done_ || bytes.empty() || !follow(bytes)) {
    throw Error("token " + std::to_string(token) + " is not what the grammar allows");
  }
  std::swap(places_, scratch_);
  if (stacks_.size() <= mostFrames_) return;
  Stacks kept;
  for (Place& place : places_.list) place.stack = copied(place.stack, stacks_, kept);
  stacks_ = std::move(kept);
  mostFrames_ = std::max(mostFrames_, 2 * stacks_.size());
}

bool GrammarMatcher::follow(std::span<const std::uint8_t> bytes) {
  scratch_ = places_;
  for (const std::uint8_t byte : bytes) {
    grammar_->automaton().advance(scratch_, byte, stacks_, step_);
    std::swap(scratch_, step_);
    if (scratch_.list.empty() && !scratch_.ended) return false;
  }
  return true;
}

std::span<const std::uint32_t> GrammarMatcher::allowed(std::span<const std::int32_t> suppressed) {
  mask_ = grammar_->maskOf(places_, stacks_);
  const auto bit = [](std::int32_t token) { return 1u << (token % 32); };
  const bool isOwn = !shown_.empty() || !suppressed.empty();
  if (isOwn) own_ = *mask_;
  for (const std::int32_t token : shown_) {
    const auto bytes = grammar_->vocabulary().bytesOf(token);
    if (!bytes.empty() && follow(bytes)) own_[token / 32] |= bit(token);
  }
  if (!suppressed.empty()) {
    TokenMask rest = own_;
    for (const std::int32_t token : suppressed) {
      if (static_cast<std::size_t>(token) / 32 < rest.size()) rest[token / 32] &= ~bit(token);
    }
    if (std::ranges::any_of(rest, [](std::uint32_t word) { return word != 0; })) own_ = std::move(rest);
  }
  const TokenMask& mask = isOwn ? own_ : *mask_;
  check(std::ranges::any_of(mask, [](std::uint32_t word) { return word != 0; }),
        "the grammar allows no token of the model here");
  return mask;
}

}  // namespace tandem
