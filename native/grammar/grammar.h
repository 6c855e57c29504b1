#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/vocabulary.h"

namespace tandem {

// A bit for each token of the vocabulary.
using TokenMask = std::vector<std::uint32_t>;

// A grammar over the tokens of a vocabulary, and the masks that were found so far: they are shared by all
// sequences that follow it, on both lanes.
//
// Which tokens may follow a place depends on its state, and for tokens in which the state's rule ends, on
// what called it. So for each state it is found once which tokens stay inside of its rule, and where in the
// trie the rule may end; only from there on the callers are looked at (XGrammar, Dong et al. 2024,
// section 3.1). And whole masks are kept by place.
class Grammar {
 public:
  // Throws Error if the tables are no grammar, or need bytes that no token is, or the vocabulary has no token
  // that ends an answer.
  Grammar(GrammarTables tables, std::shared_ptr<const Vocabulary> vocabulary);

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  const Automaton& automaton() const { return automaton_; }

  // The tokens that may follow.
  std::shared_ptr<const TokenMask> maskOf(const Places& places, Stacks& stacks);

  // Finds what the states allow, those near the start first, as many as are kept, until told to stop.
  void warm(const std::atomic<bool>& stop);
  // States of which it is known what they allow.
  std::size_t knownStates();

 private:
  struct StateTokens {
    TokenMask inside;
    std::vector<std::int32_t> ends;  // nodes with descendants
  };
  using Key = std::vector<std::int32_t>;
  struct KeyHash {
    std::size_t operator()(const Key& key) const;
  };

  Key keyOf(const Places& places, const Stacks& stacks) const;
  std::shared_ptr<const StateTokens> tokensOf(std::int32_t state);
  // Marks the tokens at the nodes [begin, end), which lie below depth `depth`, where `places` are. `ends`
  // takes the nodes at which the bytes may be all.
  void mark(std::int32_t begin, std::int32_t end, int depth, const Places& places, Stacks& stacks,
            TokenMask& mask, std::vector<std::int32_t>* ends) const;

  const GrammarTables tables_;
  const std::shared_ptr<const Vocabulary> vocabulary_;
  const Automaton automaton_;
  const std::size_t mostKept_;  // masks

  std::mutex mutex_;
  std::unordered_map<std::int32_t, std::shared_ptr<const StateTokens>> stateTokens_;
  std::unordered_map<Key, std::shared_ptr<const TokenMask>, KeyHash> masks_;
};

}  // namespace tandem
