#include "grammar/automaton.h"

#include <algorithm>
#include <array>
#include <bit>
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

// The classes of each group's bytes.
std::array<std::vector<std::uint8_t>, kByteGroups> classesOfGroups(const GrammarTables& tables) {
  std::array<std::vector<std::uint8_t>, kByteGroups> classes;
  for (int byte = 0; byte < 256; ++byte) {
    auto& of = classes[std::countr_zero(groupOf(static_cast<std::uint8_t>(byte)))];
    const std::uint8_t value = tables.byteClasses[byte];
    if (std::ranges::find(of, value) == of.end()) of.push_back(value);
  }
  return classes;
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
  const auto groupClasses = classesOfGroups(tables);
  for (std::int32_t state = 0; state < static_cast<std::int32_t>(tables.states()); ++state) {
    ways_.push_back(waysOf(state, groupClasses));
    const bool takes = ways_.back().groups != 0, ends = tables.accepting[state];
    takesBytes_.push_back(takes);
    isPlain_.push_back(!calls(state) && !ends);
    onlyEnds_.push_back(!calls(state) && !takes && ends);
  }
}

Automaton::Ways Automaton::waysOf(std::int32_t state,
                                  std::span<const std::vector<std::uint8_t>> groupClasses) const {
  Ways ways;
  const auto row = std::span(tables_.next).subspan(state * classes_, classes_);
  for (std::size_t group = 0; group < groupClasses.size(); ++group) {
    const std::vector<std::uint8_t>& classes = groupClasses[group];
    const auto bit = static_cast<ByteGroups>(1 << group);
    const auto takes = [&](std::uint8_t of) { return row[of] >= 0; };
    if (std::ranges::any_of(classes, takes)) ways.groups |= bit;
    const std::int32_t target = row[classes[0]];
    if (target < 0 || (ways.common >= 0 && target != ways.common)) continue;
    if (!std::ranges::all_of(classes, [&](std::uint8_t of) { return row[of] == target; })) continue;
    ways.common = target;
    ways.commonGroups |= bit;
  }
  return ways;
}

bool Automaton::takesAny(std::int32_t state, ByteGroups groups, int count) const {
  for (; count > 0; --count) {
    const Ways& ways = ways_[state];
    if ((groups & ~ways.commonGroups) != 0) return false;
    if (ways.common == state) return true;
    state = ways.common;
  }
  return true;
}

ByteGroups Automaton::groupsFrom(const Places& places) const {
  ByteGroups groups = 0;
  for (const Place place : places.list) groups |= ways_[place.state].groups;
  return groups;
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
  std::vector<bool> bytes(256, false);
  std::vector<std::uint8_t> classes(classes_, 0);
  for (auto row = tables_.next.begin(); row != tables_.next.end(); row += classes_) {
    for (std::int64_t i = 0; i < classes_; ++i) classes[i] |= static_cast<std::uint8_t>(row[i] >= 0);
  }
  for (int byte = 0; byte < 256; ++byte) bytes[byte] = classes[tables_.byteClasses[byte]] != 0;
  return bytes;
}

}  // namespace tandem
