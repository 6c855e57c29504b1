#include "grammar/rule-keys.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace tandem {
namespace {

// Of all keys of a grammar together; the rules of JSON take a hundredth of it.
constexpr std::size_t kMostBytesOfKeys = std::size_t{1} << 20;

struct Rule {
  std::string states;                 // as bytes
  std::vector<std::int32_t> callees;  // in the order in which its states call them
};

void put(std::string& bytes, std::int32_t value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Where `value` is in the list, to which it is added if it is not there.
std::int32_t indexIn(std::vector<std::int32_t>& list, std::int32_t value) {
  const auto found = std::ranges::find(list, value);
  const auto index = static_cast<std::int32_t>(found - list.begin());
  if (found == list.end()) list.push_back(value);
  return index;
}

// Reads the rules of a grammar as they look without its numbers for states, rules and classes of bytes.
class Reader {
 public:
  explicit Reader(const GrammarTables& tables) : tables_(tables), rules_(tables.ruleStarts.size()) {
    const std::vector<std::uint8_t>& classes = tables.byteClasses;
    for (int byte = 0; byte < 256; ++byte) {
      if (byte == 255 || classes[byte + 1] != classes[byte]) runs_.push_back({byte, classes[byte]});
    }
  }

  // Nothing where the rule is no list of states of its own.
  const Rule* rule(std::int32_t index) {
    std::optional<Rule>& rule = rules_[index];
    if (!rule) rule = read(index);
    return rule->states.empty() ? nullptr : &*rule;
  }

 private:
  struct Run {
    int last;  // byte
    std::uint8_t of;
  };

  Rule read(std::int32_t index) const {
    const auto& starts = tables_.ruleStarts;
    const std::int32_t begin = starts[index];
    const auto after = static_cast<std::size_t>(index) + 1;
    const auto end = after < starts.size() ? starts[after] : static_cast<std::int32_t>(tables_.states());
    const auto classes = static_cast<std::int64_t>(tables_.classes());
    bool isApart = begin < end;
    const auto own = [&](std::int32_t state) {
      if (state >= 0 && (state < begin || state >= end)) isApart = false;
      return state < 0 ? -1 : state - begin;
    };
    Rule rule;
    for (std::int32_t state = begin; state < end && isApart; ++state) {
      put(rule.states, tables_.accepting[state]);
      for (std::size_t run = 0; run < runs_.size(); ++run) {
        const auto target = [&](std::size_t of) { return tables_.next[state * classes + runs_[of].of]; };
        if (run + 1 < runs_.size() && target(run + 1) == target(run)) continue;
        put(rule.states, runs_[run].last);
        put(rule.states, own(target(run)));
      }
      for (std::int32_t call = tables_.callBegins[state]; call < tables_.callBegins[state + 1]; ++call) {
        put(rule.states, indexIn(rule.callees, tables_.callRules[call]));
        put(rule.states, own(tables_.callReturns[call]));
      }
      put(rule.states, -1);
    }
    return isApart ? rule : Rule{};
  }

  const GrammarTables& tables_;
  std::vector<Run> runs_;  // bytes of one class, in order
  std::vector<std::optional<Rule>> rules_;
};

}  // namespace

std::vector<std::string> ruleKeys(const GrammarTables& tables) {
  std::vector<std::string> keys(tables.ruleStarts.size());
  Reader reader(tables);
  std::size_t bytes = 0;
  for (std::size_t index = 1; index < keys.size() && bytes < kMostBytesOfKeys; ++index) {
    std::string key;
    std::vector<std::int32_t> reached{static_cast<std::int32_t>(index)};
    bool isWhole = true;
    for (std::size_t at = 0; at < reached.size() && isWhole; ++at) {
      const Rule* rule = reached[at] == 0 ? nullptr : reader.rule(reached[at]);
      isWhole = rule != nullptr && bytes + key.size() < kMostBytesOfKeys;
      if (!isWhole) break;
      put(key, static_cast<std::int32_t>(rule->states.size()));
      key += rule->states;
      for (const std::int32_t callee : rule->callees) put(key, indexIn(reached, callee));
    }
    bytes += key.size();
    if (isWhole) keys[index] = std::move(key);
  }
  return keys;
}

}  // namespace tandem
