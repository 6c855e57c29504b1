#include "grammar/grammar.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace tandem {
namespace {

// Of each of the two kinds of masks of one grammar. A mask of 128k tokens has 16 KiB.
constexpr std::size_t kMaskBytes = std::size_t{8} << 20;

void set(TokenMask& mask, std::int32_t token) { mask[token / 32] |= 1u << (token % 32); }

GrammarTables checked(GrammarTables tables) {
  checkTables(tables);
  return tables;
}

}  // namespace

Grammar::Grammar(GrammarTables tables, std::shared_ptr<const Vocabulary> vocabulary)
    : tables_(checked(std::move(tables))),
      vocabulary_(std::move(vocabulary)),
      automaton_(tables_),
      mostKept_(std::max<std::size_t>(16, kMaskBytes / (vocabulary_->words() * sizeof(std::uint32_t)))) {
  check(!vocabulary_->endTokens().empty(),
        "the model has no token that ends an answer, which a grammar needs");
  const std::vector<bool> needed = automaton_.bytes();
  for (int byte = 0; byte < 256; ++byte) {
    if (needed[byte] && !vocabulary_->hasByte(static_cast<std::uint8_t>(byte))) {
      throw Error("the grammar needs byte " + std::to_string(byte) + ", which no token of the model is");
    }
  }
}

std::shared_ptr<const TokenMask> Grammar::maskOf(const Places& places, Stacks& stacks) {
  Key key = keyOf(places, stacks);
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = masks_.find(key); found != masks_.end()) return found->second;
  }
  auto mask = std::make_shared<TokenMask>(vocabulary_->words(), 0);
  const auto nodes = vocabulary_->nodes();
  Places callers;
  for (const Place place : places.list) {
    if (!automaton_.takesBytes(place.state)) continue;
    const auto tokens = tokensOf(place.state);
    for (std::size_t word = 0; word < mask->size(); ++word) (*mask)[word] |= tokens->inside[word];
    if (place.stack < 0 || tokens->ends.empty()) continue;
    callers.list.clear();
    callers.ended = false;
    automaton_.enter(callers, stacks, {stacks[place.stack].state, stacks[place.stack].below});
    if (callers.list.empty()) continue;
    for (const std::int32_t node : tokens->ends) {
      mark(node + 1, nodes[node].end, nodes[node].depth, callers, stacks, *mask, nullptr);
    }
  }
  if (places.ended) {
    for (const std::int32_t token : vocabulary_->endTokens()) set(*mask, token);
  }
  const std::lock_guard lock(mutex_);
  if (masks_.size() >= mostKept_) masks_.clear();
  masks_.emplace(std::move(key), mask);
  return mask;
}

std::shared_ptr<const Grammar::StateTokens> Grammar::tokensOf(std::int32_t state) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = stateTokens_.find(state); found != stateTokens_.end()) return found->second;
  }
  auto tokens = std::make_shared<StateTokens>();
  tokens->inside.assign(vocabulary_->words(), 0);
  Stacks stacks;
  // The state alone: what it calls, or returns to, are places of their own.
  const Places places{{{state, -1}}, false};
  const auto nodes = vocabulary_->nodes();
  mark(0, static_cast<std::int32_t>(nodes.size()), 0, places, stacks, tokens->inside, &tokens->ends);
  const std::lock_guard lock(mutex_);
  if (stateTokens_.size() >= mostKept_) stateTokens_.clear();
  stateTokens_.emplace(state, tokens);
  return tokens;
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
  std::size_t found = 0;
  for (std::size_t at = 0; at < order.size() && found < mostKept_ && !stop; ++at) {
    const std::int32_t state = order[at];
    if (automaton_.takesBytes(state)) {
      tokensOf(state);
      ++found;
    }
    for (std::size_t i = 0; i < classes; ++i) reach(tables_.next[state * classes + i]);
    for (std::int32_t call = tables_.callBegins[state]; call < tables_.callBegins[state + 1]; ++call) {
      reach(tables_.ruleStarts[tables_.callRules[call]]);
      reach(tables_.callReturns[call]);
    }
  }
}

std::size_t Grammar::knownStates() {
  const std::lock_guard lock(mutex_);
  return stateTokens_.size();
}

void Grammar::mark(std::int32_t begin, std::int32_t end, int depth, const Places& places, Stacks& stacks,
                   TokenMask& mask, std::vector<std::int32_t>* ends) const {
  const auto nodes = vocabulary_->nodes();
  std::vector<Places> below;  // the places at each depth under `depth`
  for (std::int32_t at = begin; at < end;) {
    const Vocabulary::Node& node = nodes[at];
    const std::size_t level = node.depth - depth - 1;
    if (below.size() <= level) below.resize(level + 1);
    automaton_.advance(level == 0 ? places : below[level - 1], node.byte, stacks, below[level]);
    const auto& [list, ended] = below[level];
    if (!list.empty() || ended) {
      for (std::int32_t token = node.token; token >= 0; token = vocabulary_->same(token)) set(mask, token);
    }
    if (ended && ends && node.end > at + 1) ends->push_back(at);
    at = list.empty() ? node.end : at + 1;
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
