#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/rule-cache.h"
#include "grammar/vocabulary.h"

namespace tandem {

// A grammar over the tokens of a vocabulary, and the masks that were found so far: they are shared by all
// sequences that follow it, on both lanes.
//
// Which tokens may follow a place depends on its state, and for tokens in which the state's rule ends, on
// what called it. So for each state it is found once which tokens stay inside of its rule, and where in the
// trie the rule may end; only from there on the callers are looked at (XGrammar, Dong et al. 2024,
// section 3.1). That is shared with other grammars that have the same rule. And whole masks are kept by
// place.
class Grammar {
 public:
  // Throws Error if the tables are no grammar, or need bytes that no token is, or the vocabulary has no token
  // that ends an answer.
  Grammar(GrammarTables tables, RuleCache& rules);
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  const Automaton& automaton() const { return automaton_; }

  // The tokens that may follow.
  std::shared_ptr<const TokenMask> maskOf(const Places& places, Stacks& stacks);

  // Finds what the states allow, those near the start first, as many as are kept, until told to stop. Holds
  // no lock that `maskOf` waits for: a thread in the background may be kept from giving it back.
  void warm(const std::atomic<bool>& stop);
  // States of which it is known what they allow.
  std::size_t knownStates() const;

 private:
  struct Nodes {
    std::int32_t begin, end;
  };
  // Where what is known of a state is kept.
  struct Home {
    RuleTokens& rule;
    std::int32_t state;  // counted from the rule's first
  };
  using Key = std::vector<std::int32_t>;
  struct KeyHash {
    std::size_t operator()(const Key& key) const;
  };

  Key keyOf(const Places& places, const Stacks& stacks) const;
  Home homeOf(std::int32_t state) const;
  // In `own` where there is no room to keep it.
  const StateTokens& tokensOf(std::int32_t state, StateTokens& own);
  // Marks the tokens at some nodes, which lie below depth `depth`, where `places` are. `ends` takes the nodes
  // at which the bytes may be all.
  void mark(Nodes nodes, int depth, const Places& places, Stacks& stacks, TokenMask& mask,
            std::vector<std::int32_t>* ends) const;
  // The same behind each of the nodes.
  void markBehind(std::span<const std::int32_t> ends, const Places& places, Stacks& stacks,
                  TokenMask& mask) const;

  const GrammarTables tables_;
  const std::shared_ptr<const Vocabulary> vocabulary_;
  const Automaton automaton_;
  const std::size_t mostMasks_;

  std::vector<std::int32_t> ruleBegins_;                 // states, in order
  std::vector<std::shared_ptr<RuleTokens>> ruleTokens_;  // of the states from each of these on
  std::mutex mutex_;
  std::unordered_map<Key, std::shared_ptr<const TokenMask>, KeyHash> masks_;
};

}  // namespace tandem
