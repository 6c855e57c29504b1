#include "grammar/automaton.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace tandem {
namespace {

// Beyond so many places further ones are dropped: what is still allowed belongs to the grammar, though it may
// not be all of it. Grammars of JSON schemas have some ten at most.
constexpr std::size_t kMostPlaces = 256;

void checkStates(std::span<const std::int32_t> values, std::int32_t least, std::size_t states,
                 const char* what) {
  for (const std::int32_t value : values) {
    if (value < least || value >= static_cast<std::int64_t>(states)) {
      throw Error(std::string("a grammar's ") + what + " name state " + std::to_string(value) + " of " +
                  std::to_string(states));
    }
  }
}

}  // namespace

void checkTables(const GrammarTables& tables) {
  const std::size_t states = tables.states();
  check(states > 0 && !tables.ruleStarts.empty(), "a grammar needs a state and a rule");
  check(tables.byteClasses.size() == 256, "a grammar needs a class for each byte");
  check(tables.next.size() % states == 0, "a grammar's transitions are no table");
  for (const std::uint8_t value : tables.byteClasses) {
    check(value < tables.classes(), "a grammar's byte class has no transitions");
  }
  checkStates(tables.next, -1, states, "transitions");
  checkStates(tables.ruleStarts, 0, states, "rules");
  checkStates(tables.callReturns, 0, states, "calls");
  checkStates(tables.callRules, 0, tables.ruleStarts.size(), "calls of rules");
  check(tables.callRules.size() == tables.callReturns.size(), "a grammar's calls differ in length");
  check(tables.callBegins.size() == states + 1 && tables.callBegins.front() == 0 &&
            std::is_sorted(tables.callBegins.begin(), tables.callBegins.end()) &&
            static_cast<std::size_t>(tables.callBegins.back()) == tables.callRules.size(),
        "a grammar's calls do not lie one behind another");
}

std::int32_t Stacks::push(std::int32_t state, std::int32_t below) {
  const std::uint64_t key =
      static_cast<std::uint64_t>(static_cast<std::uint32_t>(state)) << 32 | static_cast<std::uint32_t>(below);
  const auto [entry, isNew] = indices_.try_emplace(key, static_cast<std::int32_t>(frames_.size()));
  if (isNew) frames_.push_back({state, below});
  return entry->second;
}

Automaton::Automaton(const GrammarTables& tables)
    : tables_(tables), classes_(static_cast<std::int64_t>(tables.classes())) {
  for (std::size_t state = 0; state < tables.states(); ++state) {
    const auto row = std::span(tables.next).subspan(state * classes_, classes_);
    const bool takes = std::ranges::any_of(row, [](std::int32_t next) { return next >= 0; });
    const bool calls = tables.callBegins[state] < tables.callBegins[state + 1];
    takesBytes_.push_back(takes);
    isPlain_.push_back(!calls && !tables.accepting[state]);
    onlyEnds_.push_back(!calls && !takes && tables.accepting[state]);
  }
}

void Automaton::enter(Places& places, Stacks& stacks, Place place) const {
  std::vector<Place>& list = places.list;
  const auto add = [&](Place added) {
    if (list.size() < kMostPlaces && std::ranges::find(list, added) == list.end()) list.push_back(added);
  };
  std::size_t at = list.size();
  add(place);
  for (; at < list.size(); ++at) {
    const auto [state, stack] = list[at];
    for (std::int32_t call = tables_.callBegins[state]; call < tables_.callBegins[state + 1]; ++call) {
      const std::int32_t back = tables_.callReturns[call];
      add({tables_.ruleStarts[tables_.callRules[call]], onlyEnds_[back] ? stack : stacks.push(back, stack)});
    }
    if (!tables_.accepting[state]) continue;
    if (stack < 0) {
      places.ended = true;
    } else {
      add({stacks[stack].state, stacks[stack].below});
    }
  }
}

void Automaton::advance(const Places& from, std::uint8_t byte, Stacks& stacks, Places& to) const {
  to.list.clear();
  to.ended = false;
  for (const auto [state, stack] : from.list) {
    const std::int32_t target = next(state, byte);
    if (target < 0) continue;
    if (from.list.size() == 1 && isPlain_[target]) {
      to.list.push_back({target, stack});
    } else {
      enter(to, stacks, {target, stack});
    }
  }
}

std::vector<bool> Automaton::bytes() const {
  std::vector<bool> classes(classes_, false), bytes(256, false);
  for (std::size_t i = 0; i < tables_.next.size(); ++i) {
    if (tables_.next[i] >= 0) classes[i % classes_] = true;
  }
  for (int byte = 0; byte < 256; ++byte) bytes[byte] = classes[tables_.byteClasses[byte]];
  return bytes;
}

}  // namespace tandem
