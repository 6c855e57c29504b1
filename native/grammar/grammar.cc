#include "grammar/grammar.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"
#include "grammar/rule-keys.h"

namespace tandem {
namespace {

// Of each of the two things that a grammar remembers for itself. A mask of 128k tokens has 16 KiB.
constexpr std::size_t kMostBytes = std::size_t{8} << 20;

void set(TokenMask& mask, std::span<const std::int32_t> tokens) {
  for (const std::int32_t token : tokens) mask[token / 32] |= 1u << (token % 32);
}

GrammarTables checked(GrammarTables tables) {
  checkTables(tables);
  return tables;
}

}  // namespace

Grammar::Grammar(GrammarTables tables, RuleCache& rules)
    : tables_(checked(std::move(tables))),
      vocabulary_(rules.vocabulary()),
      automaton_(tables_),
      mostMasks_(std::max<std::size_t>(16, kMostBytes / (vocabulary_->words() * sizeof(std::uint32_t)))) {
  check(!vocabulary_->endTokens().empty(),
        "the model has no token that ends an answer, which a grammar needs");
  const std::vector<bool> needed = automaton_.bytes();
  for (int byte = 0; byte < 256; ++byte) {
    if (needed[byte] && !vocabulary_->hasByte(static_cast<std::uint8_t>(byte))) {
      throw Error("the grammar needs byte " + std::to_string(byte) + ", which no token of the model is");
    }
  }
  const auto room = std::make_shared<TokenRoom>(kMostBytes);
  const auto all = static_cast<std::int32_t>(tables_.states());
  std::vector<std::string> keys = ruleKeys(tables_);
  const auto& starts = tables_.ruleStarts;
  // Without an order there are no rules that could be told apart.
  ruleBegins_ = {0};
  if (std::ranges::is_sorted(starts)) ruleBegins_.insert(ruleBegins_.end(), starts.begin() + 1, starts.end());
  for (std::size_t rule = 0; rule < ruleBegins_.size(); ++rule) {
    const std::int32_t end = rule + 1 < ruleBegins_.size() ? ruleBegins_[rule + 1] : all;
    const auto states = static_cast<std::size_t>(end - ruleBegins_[rule]);
    ruleTokens_.push_back(keys[rule].empty() ? std::make_shared<RuleTokens>(states, room)
                                             : rules.find(std::move(keys[rule]), states));
  }
}

Grammar::Home Grammar::homeOf(std::int32_t state) const {
  const auto rule = std::ranges::upper_bound(ruleBegins_, state) - ruleBegins_.begin() - 1;
  return {*ruleTokens_[rule], state - ruleBegins_[rule]};
}

std::size_t Grammar::knownStates() const {
  std::size_t known = 0;
  for (const auto& rule : ruleTokens_) known += rule->knownStates();
  return known;
}

std::shared_ptr<const TokenMask> Grammar::maskOf(const Places& places, Stacks& stacks) {
  Key key = keyOf(places, stacks);
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = masks_.find(key); found != masks_.end()) return found->second;
  }
  auto mask = std::make_shared<TokenMask>(vocabulary_->words(), 0);
  Places callers;
  StateTokens own;
  for (const Place place : places.list) {
    if (!automaton_.takesBytes(place.state)) continue;
    const StateTokens& tokens = tokensOf(place.state, own);
    for (std::size_t word = 0; word < mask->size(); ++word) (*mask)[word] |= tokens.inside[word];
    if (place.stack < 0 || tokens.ends.empty()) continue;
    callers.list.clear();
    callers.ended = false;
    automaton_.enter(callers, stacks, {stacks[place.stack].state, stacks[place.stack].below});
    markBehind(tokens.ends, callers, stacks, *mask);
  }
  if (places.ended) set(*mask, vocabulary_->endTokens());
  const std::lock_guard lock(mutex_);
  if (masks_.size() >= mostMasks_) masks_.clear();
  masks_.emplace(std::move(key), mask);
  return mask;
}

const StateTokens& Grammar::tokensOf(std::int32_t state, StateTokens& own) {
  const auto [rule, local] = homeOf(state);
  if (const StateTokens* tokens = rule.of(local)) return *tokens;
  own.inside.assign(vocabulary_->words(), 0);
  own.ends.clear();
  Stacks stacks;
  // The state alone: what it calls, or returns to, are places of their own.
  const Places places{{{state, -1}}, false};
  const auto all = static_cast<std::int32_t>(vocabulary_->nodes().size());
  mark({0, all}, 0, places, stacks, own.inside, &own.ends);
  const StateTokens* kept = rule.keep(local, own);
  return kept ? *kept : own;
}

void Grammar::warm(const std::atomic<bool>& stop) {
  const std::size_t count = tables_.states(), classes = tables_.classes();
  std::vector<std::int32_t> order{tables_.ruleStarts[0]};
  std::vector<bool> seen(count, false);
  seen[order[0]] = true;
  const auto reach = [&](std::int32_t state) {
    if (state < 0 || seen[state]) return;
    seen[state] = true;
    order.push_back(state);
  };
  StateTokens own;
  for (std::size_t at = 0; at < order.size() && !stop; ++at) {
    const std::int32_t state = order[at];
    if (automaton_.takesBytes(state) && !homeOf(state).rule.isFull()) tokensOf(state, own);
    for (std::size_t i = 0; i < classes; ++i) reach(tables_.next[state * classes + i]);
    for (std::int32_t call = tables_.callBegins[state]; call < tables_.callBegins[state + 1]; ++call) {
      reach(tables_.ruleStarts[tables_.callRules[call]]);
      reach(tables_.callReturns[call]);
    }
  }
}

void Grammar::mark(Nodes range, int depth, const Places& places, Stacks& stacks, TokenMask& mask,
                   std::vector<std::int32_t>* ends) const {
  const auto nodes = vocabulary_->nodes();
  std::vector<Places> below;  // the places at each depth under `depth`
  for (std::int32_t at = range.begin; at < range.end;) {
    const Vocabulary::Node& node = nodes[at];
    const std::size_t level = node.depth - depth - 1;
    if (below.size() <= level) below.resize(level + 1);
    automaton_.advance(level == 0 ? places : below[level - 1], node.byte, stacks, below[level]);
    const auto& [list, ended] = below[level];
    if (!list.empty() || ended) set(mask, vocabulary_->tokensAt(at));
    // Within a text most of what is below a node may follow, whatever it is, and whatever else it may be.
    const bool takesAll = std::ranges::any_of(
        list, [&](const Place& place) { return automaton_.takesAny(place.state, node.below, node.height); });
    if (takesAll) set(mask, vocabulary_->tokensBelow(at));
    if (ends && ended && !takesAll && node.height > 0) ends->push_back(at);
    at = takesAll || list.empty() ? node.end : at + 1;
  }
}

void Grammar::markBehind(std::span<const std::int32_t> ends, const Places& places, Stacks& stacks,
                         TokenMask& mask) const {
  const auto nodes = vocabulary_->nodes();
  const ByteGroups groups = automaton_.groupsFrom(places);
  for (const std::int32_t at : ends) {
    const Vocabulary::Node& node = nodes[at];
    if ((node.below & groups) != 0) mark({at + 1, node.end}, node.depth, places, stacks, mask, nullptr);
  }
}

// All that a mask depends on: the states, and what they return to.
Grammar::Key Grammar::keyOf(const Places& places, const Stacks& stacks) const {
  Key key{places.ended ? 1 : 0};
  for (const Place place : places.list) {
    if (!automaton_.takesBytes(place.state)) continue;
    key.push_back(place.state);
    for (std::int32_t stack = place.stack; stack >= 0; stack = stacks[stack].below)
      key.push_back(stacks[stack].state);
    key.push_back(-1);
  }
  return key;
}

std::size_t Grammar::KeyHash::operator()(const Key& key) const {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const std::int32_t value : key) hash = (hash ^ static_cast<std::uint32_t>(value)) * 0x100000001b3u;
  return hash;
}

}  // namespace tandem
