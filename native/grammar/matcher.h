#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "grammar/grammar.h"

namespace tandem {

// A sequence's way through a grammar.
class GrammarMatcher {
 public:
  // `shown`: special tokens that are text in this answer.
  GrammarMatcher(std::shared_ptr<Grammar> grammar, std::vector<std::int32_t> shown);

  // A token was generated. Throws Error if the grammar does not allow it.
  void accept(std::int32_t token);

  // A token has ended it; none may follow.
  bool isDone() const { return done_; }

  // The tokens that may follow, a bit for each; at least one. All of `suppressed` are left out unless nothing
  // else may follow. Valid until the next call.
  std::span<const std::uint32_t> allowed(std::span<const std::int32_t> suppressed);

 private:
  // Whether all bytes lead somewhere from here; then `scratch_` are the places.
  bool follow(std::span<const std::uint8_t> bytes);

  std::shared_ptr<Grammar> grammar_;
  std::vector<std::int32_t> shown_;
  Stacks stacks_;
  std::size_t mostFrames_ = 1 << 16;  // beyond it those that no place returns to any more are forgotten
  Places places_, scratch_, step_;
  bool done_ = false;
  std::shared_ptr<const TokenMask> mask_;
  TokenMask own_;  // where the mask is not the grammar's
};

}  // namespace tandem
