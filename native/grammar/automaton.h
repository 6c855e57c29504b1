#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace tandem {

// A grammar over bytes: each rule is a finite automaton whose states go on with a byte, or call another rule
// and go on at a state of their own when that has ended. engine/grammar/ makes it of a JSON schema or a
// grammar's text.
struct GrammarTables {
  std::vector<std::uint8_t> byteClasses;  // [256]: bytes of one class are alike everywhere
  std::vector<std::int32_t> next;         // [states, classes]: a state, or -1
  std::vector<std::int32_t> callBegins;   // [states + 1]: where a state's calls lie in
  std::vector<std::int32_t> callRules;
  std::vector<std::int32_t> callReturns;  // states
  std::vector<std::uint8_t> accepting;    // [states]: the state's rule may end there
  std::vector<std::int32_t> ruleStarts;   // [rules]: states; the first rule is the whole

  std::size_t states() const { return accepting.size(); }
  std::size_t classes() const { return accepting.empty() ? 0 : next.size() / accepting.size(); }
};

// Throws Error naming what does not fit.
void checkTables(const GrammarTables& tables);

// A place in the grammar: a state, and the states to return to, as an index into `Stacks`; -1: none.
struct Place {
  std::int32_t state;
  std::int32_t stack;
  bool operator==(const Place&) const = default;
};

// All places that the bytes so far may have led to.
struct Places {
  std::vector<Place> list;
  bool ended = false;  // the bytes so far may be all: a rule has ended that nothing called
};

// Returns to make, as linked lists that share their ends. Equal stacks have equal indices.
class Stacks {
 public:
  struct Frame {
    std::int32_t state;
    std::int32_t below;
  };
  std::int32_t push(std::int32_t state, std::int32_t below);
  const Frame& operator[](std::int32_t stack) const { return frames_[stack]; }
  std::size_t size() const { return frames_.size(); }

 private:
  std::vector<Frame> frames_;
  std::unordered_map<std::uint64_t, std::int32_t> indices_;
};

// Follows bytes through a grammar.
class Automaton {
 public:
  explicit Automaton(const GrammarTables& tables);

  // Adds a place and all that can be reached from it without a byte.
  void enter(Places& places, Stacks& stacks, Place place) const;

  // `to` becomes where `byte` leads from `from`; empty and not ended if nowhere.
  void advance(const Places& from, std::uint8_t byte, Stacks& stacks, Places& to) const;

  Place start() const { return {tables_.ruleStarts[0], -1}; }
  // Whether some byte may follow without a call or a return.
  bool takesBytes(std::int32_t state) const { return takesBytes_[state]; }
  // Bytes that occur anywhere.
  std::vector<bool> bytes() const;

 private:
  std::int32_t next(std::int32_t state, std::uint8_t byte) const {
    return tables_.next[state * classes_ + tables_.byteClasses[byte]];
  }

  const GrammarTables& tables_;
  std::int64_t classes_;
  std::vector<bool> takesBytes_;
  std::vector<bool> isPlain_;   // neither calls nor ends
  std::vector<bool> onlyEnds_;  // a call that returns there need not return
};

}  // namespace tandem
