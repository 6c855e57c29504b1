#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/vocabulary.h"

namespace tandem {

// A bit for each token of the vocabulary.
using TokenMask = std::vector<std::uint32_t>;

// The tokens that may follow a state, as far as its rule and what that calls say.
struct StateTokens {
  TokenMask inside;                // those that stay inside of the rule
  std::vector<std::int32_t> ends;  // nodes at which the rule may end, and behind which not all may follow

  std::size_t bytes() const { return inside.size() * sizeof(inside[0]) + ends.size() * sizeof(ends[0]); }
};

// What some rules may keep together.
struct TokenRoom {
  explicit TokenRoom(std::size_t most) : mostBytes(most) {}
  bool isFull() const { return bytes >= mostBytes; }

  const std::size_t mostBytes;
  std::atomic<std::size_t> bytes{0};
};

// What is known of a rule's states. Lanes and the thread that looks ahead find it at the same time; whoever
// is first keeps it.
class RuleTokens {
 public:
  RuleTokens(std::size_t states, std::shared_ptr<TokenRoom> room);
  ~RuleTokens();
  RuleTokens(const RuleTokens&) = delete;
  RuleTokens& operator=(const RuleTokens&) = delete;

  // Null: not known. States are counted from the rule's first.
  const StateTokens* of(std::int32_t state) const { return states_[state].load(std::memory_order_acquire); }
  // What is kept of the state from now on, which another thread may have found; null where there is no room.
  const StateTokens* keep(std::int32_t state, StateTokens& tokens);

  bool isFull() const { return room_->isFull(); }
  std::size_t knownStates() const { return known_; }

 private:
  std::vector<std::atomic<const StateTokens*>> states_;  // owned, once they are there
  const std::shared_ptr<TokenRoom> room_;
  std::atomic<std::size_t> known_{0}, bytes_{0};
};

// A vocabulary, and what is known of rules over it that grammars have in common: those of JSON's strings,
// objects and values are the same in every schema. Belongs to the thread that makes grammars.
class RuleCache {
 public:
  explicit RuleCache(std::shared_ptr<const Vocabulary> vocabulary);

  const std::shared_ptr<const Vocabulary>& vocabulary() const { return vocabulary_; }
  // What is known of the rule with this key, which says all about it.
  std::shared_ptr<RuleTokens> find(std::string key, std::size_t states);

 private:
  void dropUnused();

  const std::shared_ptr<const Vocabulary> vocabulary_;
  const std::shared_ptr<TokenRoom> room_;
  std::size_t keyBytes_ = 0;
  std::unordered_map<std::string, std::shared_ptr<RuleTokens>> rules_;
};

}  // namespace tandem
