#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/byte-groups.h"

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
  // Whether any `count` bytes of these groups may follow from the state within its rule. Says no where it
  // would take long to tell.
  bool takesAny(std::int32_t state, ByteGroups groups, int count) const;
  // The groups of the bytes that may follow.
  ByteGroups groupsFrom(const Places& places) const;
  // Whether some byte may follow without a call or a return.
  bool takesBytes(std::int32_t state) const { return takesBytes_[state]; }
  // Bytes that occur anywhere.
  std::vector<bool> bytes() const;

 private:
  // Where the bytes of a state's groups lead.
  struct Ways {
    std::int32_t common = -1;     // a state,
    ByteGroups commonGroups = 0;  // to which all bytes of these groups lead
    ByteGroups groups = 0;        // those of which some byte may follow
  };
  Ways waysOf(std::int32_t state, std::span<const std::vector<std::uint8_t>> groupClasses) const;
  bool calls(std::int32_t state) const { return tables_.callBegins[state] < tables_.callBegins[state + 1]; }

  std::int32_t next(std::int32_t state, std::uint8_t byte) const {
    return tables_.next[state * classes_ + tables_.byteClasses[byte]];
  }

  const GrammarTables& tables_;
  std::int64_t classes_;
  std::vector<bool> takesBytes_;
  std::vector<bool> isPlain_;   // neither calls nor ends
  std::vector<bool> onlyEnds_;  // a call that returns there need not return
  std::vector<Ways> ways_;
};

}  // namespace tandem
