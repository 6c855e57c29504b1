#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include "check.h"
#include "grammar/matcher.h"
#include "grammar/warmer.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr std::int32_t kEnd = 0, kSpecial = 1;

// Token 0 ends an answer, token 1 is special, then the texts.
std::shared_ptr<const Vocabulary> vocabularyOf(const std::vector<std::string>& texts, int size = 0) {
  TokenBytes tokens;
  tokens.special = {kEnd, kSpecial};
  tokens.endTokens = {kEnd};
  tokens.begins = {0};
  std::vector<std::string> all{"<end>", "b"};
  all.insert(all.end(), texts.begin(), texts.end());
  for (const std::string& text : all) {
    tokens.bytes.insert(tokens.bytes.end(), text.begin(), text.end());
    tokens.begins.push_back(static_cast<std::int32_t>(tokens.bytes.size()));
  }
  return std::make_shared<Vocabulary>(std::max<int>(size, static_cast<int>(all.size())), std::move(tokens));
}

// A grammar that has no rules in common with others.
std::shared_ptr<Grammar> grammarOf(GrammarTables tables, std::shared_ptr<const Vocabulary> vocabulary) {
  RuleCache rules(std::move(vocabulary));
  return std::make_shared<Grammar>(std::move(tables), rules);
}

// Rules written by hand: `edge` for bytes, `call` for rules.
struct Draft {
  struct Call {
    int rule, back;
  };
  std::vector<std::vector<std::pair<char, int>>> edges;
  std::vector<std::vector<Call>> calls;
  std::vector<bool> accepting;
  std::vector<int> starts;

  int state(bool accepts = false) {
    edges.emplace_back();
    calls.emplace_back();
    accepting.push_back(accepts);
    return static_cast<int>(edges.size()) - 1;
  }

  GrammarTables tables() const {
    GrammarTables tables;
    tables.byteClasses.assign(256, 0);
    for (int byte = 'a'; byte <= 'z'; ++byte)
      tables.byteClasses[byte] = static_cast<std::uint8_t>(byte - 'a' + 1);
    constexpr int kClasses = 27;
    tables.next.assign(edges.size() * kClasses, -1);
    tables.callBegins = {0};
    for (std::size_t state = 0; state < edges.size(); ++state) {
      for (const auto& [byte, target] : edges[state])
        tables.next[state * kClasses + (byte - 'a' + 1)] = target;
      for (const auto& [rule, back] : calls[state]) {
        tables.callRules.push_back(rule);
        tables.callReturns.push_back(back);
      }
      tables.callBegins.push_back(static_cast<std::int32_t>(tables.callRules.size()));
      tables.accepting.push_back(accepting[state] ? 1 : 0);
    }
    for (const int start : starts) tables.ruleStarts.push_back(start);
    return tables;
  }
};

// The same by sets of whole stacks, the current state on top.
class Reference {
 public:
  explicit Reference(const Draft& draft) : draft_(draft), stacks_(closed({{draft.starts[0]}})) {}

  bool follow(const std::string& text) {
    for (const char byte : text) {
      std::set<std::vector<int>> next;
      for (std::vector<int> stack : stacks_) {
        if (stack.empty()) continue;
        for (const auto& [edge, target] : draft_.edges[stack.back()]) {
          if (edge != byte) continue;
          std::vector<int> moved = stack;
          moved.back() = target;
          next.insert(moved);
        }
      }
      stacks_ = closed(next);
      most_ = std::max(most_, stacks_.size());
    }
    return !stacks_.empty();
  }

  // Stacks that it has had at once.
  std::size_t most() const { return most_; }

  bool ended() const { return stacks_.contains({}); }

 private:
  std::set<std::vector<int>> closed(const std::set<std::vector<int>>& from) const {
    std::set<std::vector<int>> all;
    std::vector<std::vector<int>> open(from.begin(), from.end());
    while (!open.empty()) {
      std::vector<int> stack = std::move(open.back());
      open.pop_back();
      if (!all.insert(stack).second || stack.empty()) continue;
      const int state = stack.back();
      for (const auto& [rule, back] : draft_.calls[state]) {
        std::vector<int> called = stack;
        called.back() = back;
        called.push_back(draft_.starts[rule]);
        open.push_back(called);
      }
      if (draft_.accepting[state]) {
        stack.pop_back();
        open.push_back(stack);
      }
    }
    return all;
  }

  const Draft& draft_;
  std::set<std::vector<int>> stacks_;
  std::size_t most_ = 0;
};

// What follows a state of the rule. Its first state calls nothing, so that nothing calls itself before a
// byte.
void drawWays(Draft& draft, int rule, std::mt19937& random) {
  const auto below = [&](int count) { return static_cast<int>(random() % count); };
  const int rules = static_cast<int>(draft.starts.size()), first = draft.starts[rule];
  const int count =
      (rule + 1 < rules ? draft.starts[rule + 1] : static_cast<int>(draft.edges.size())) - first;
  for (int state = first; state < first + count; ++state) {
    draft.edges[state].clear();
    draft.calls[state].clear();
    // Within a text all letters lead to the same place, or all but one.
    const bool isText = below(3) == 0;
    const char other = static_cast<char>('a' + below(6));
    const int common = first + below(count);
    for (char byte = 'a'; byte <= (isText ? 'z' : 'c'); ++byte) {
      if (isText && byte != other) {
        draft.edges[state].push_back({byte, common});
      } else if (below(2) == 0) {
        draft.edges[state].push_back({byte, first + below(count)});
      }
    }
    if (state > first && below(2) == 0) draft.calls[state].push_back({below(rules), first + below(count)});
  }
}

Draft randomDraft(std::mt19937& random) {
  const auto below = [&](int count) { return static_cast<int>(random() % count); };
  Draft draft;
  const int rules = 1 + below(3);
  for (int rule = 0; rule < rules; ++rule) {
    draft.starts.push_back(static_cast<int>(draft.edges.size()));
    for (int i = 2 + below(4); i > 0; --i) draft.state(below(3) == 0);
  }
  for (int rule = 0; rule < rules; ++rule) drawWays(draft, rule, random);
  return draft;
}

bool has(std::span<const std::uint32_t> mask, std::int32_t token) {
  return (mask[token / 32] >> (token % 32) & 1) != 0;
}

// word ::= "a" | "b" word "c": a in as many pairs of b and c.
Draft nested() {
  Draft draft;
  const int start = draft.state(), inner = draft.state(), closing = draft.state(), end = draft.state(true);
  draft.starts = {start};
  draft.edges[start] = {{'a', end}, {'b', inner}};
  draft.calls[inner] = {{0, closing}};
  draft.edges[closing] = {{'c', end}};
  return draft;
}

}  // namespace

TEST("grammar: masks are what whole stacks say of every token, on random grammars") {
  std::mt19937 random(7);
  std::vector<std::string> texts;
  for (const char a : {'a', 'b', 'c'}) {
    texts.push_back({a});
    for (const char b : {'a', 'b', 'c'}) {
      texts.push_back({a, b});
      texts.push_back({a, b, static_cast<char>('a' + random() % 3)});
      texts.push_back({a, b, static_cast<char>('a' + random() % 3), static_cast<char>('a' + random() % 3)});
    }
  }
  for (const char a : {'a', 'b', 'c'}) {
    for (const char* rest : {"abcab", "bdb", "cabba1", "c\""}) texts.push_back(a + std::string(rest));
  }
  texts.push_back("ab");  // twice
  for (char letter = 'd'; letter <= 'z'; ++letter) texts.push_back({letter});
  const auto vocabulary = vocabularyOf(texts, 99);
  RuleCache rules(vocabulary);
  int compared = 0;
  Draft draft;
  for (int round = 0; round < 400; ++round) {
    // Every other one has all rules but one in common with the one before.
    if (round % 2 == 0) {
      draft = randomDraft(random);
    } else {
      drawWays(draft, static_cast<int>(random() % draft.starts.size()), random);
    }
    const auto grammar = std::make_shared<Grammar>(draft.tables(), rules);
    GrammarMatcher matcher(grammar, {});
    std::string written;
    for (int token = 0; token < 6; ++token) {
      Reference here(draft);
      if (!here.follow(written)) break;
      std::vector<std::int32_t> expected;
      if (here.ended()) expected.push_back(kEnd);
      std::size_t most = here.most();
      for (std::size_t i = 0; i < texts.size(); ++i) {
        Reference there = here;
        if (there.follow(texts[i])) expected.push_back(static_cast<std::int32_t>(i) + 2);
        most = std::max(most, there.most());
      }
      // Drafts are not trimmed, and some may be anywhere at once, of which a grammar drops some.
      if (expected.empty() || most > 200) break;
      const auto mask = matcher.allowed({});
      test::equal(mask.size(), vocabulary->words(), "words");
      for (std::int32_t id = 0; id < vocabulary->size(); ++id) {
        test::equal(
            has(mask, id), std::ranges::find(expected, id) != expected.end(),
            "token " + std::to_string(id) + " behind \"" + written + "\" in round " + std::to_string(round));
        ++compared;
      }
      const std::int32_t next = expected[random() % expected.size()];
      matcher.accept(next);
      if (next == kEnd) break;
      written += texts[next - 2];
    }
  }
  isTrue(compared > 50'000, "enough was compared");
}

TEST("grammar: what a token may be depends on what called its rule") {
  const auto grammar = grammarOf(nested().tables(), vocabularyOf({"a", "b", "c", "bba", "acc", "accc"}));
  GrammarMatcher matcher(grammar, {});
  matcher.accept(3);
  matcher.accept(3);
  isTrue(has(matcher.allowed({}), 6), "acc closes two");
  isTrue(!has(matcher.allowed({}), 7), "accc would close three");
  matcher.accept(6);
  isTrue(has(matcher.allowed({}), kEnd) && !has(matcher.allowed({}), 4), "then only the end is left");
  matcher.accept(kEnd);
  throws([&] { matcher.accept(2); }, "token 2 is not what the grammar allows");
}

TEST("grammar: stays right over thousands of frames, and in two sequences at once") {
  const auto grammar = grammarOf(nested().tables(), vocabularyOf({"a", "b", "c"}));
  GrammarMatcher deep(grammar, {}), shallow(grammar, {});
  constexpr int kDepth = 70'000;
  for (int i = 0; i < kDepth; ++i) deep.accept(3);
  shallow.accept(3);
  shallow.accept(2);
  deep.accept(2);
  for (int i = 0; i < kDepth; ++i) {
    isTrue(i % 10'000 != 0 || !has(deep.allowed({}), kEnd), "not before all are closed");
    deep.accept(4);
  }
  isTrue(has(deep.allowed({}), kEnd), "all are closed");
  isTrue(has(shallow.allowed({}), 4) && !has(shallow.allowed({}), kEnd), "the other has one open");
}

TEST("grammar: once it is warm, following it finds nothing new, and the same masks") {
  const auto vocabulary = vocabularyOf({"a", "b", "c", "bb", "ac", "cc"});
  const auto warm = grammarOf(nested().tables(), vocabulary);
  const auto cold = grammarOf(nested().tables(), vocabulary);
  const std::atomic<bool> stop{false};
  warm->warm(stop);
  const std::size_t known = warm->knownStates();
  isTrue(known > 0 && cold->knownStates() == 0, "states are known");
  GrammarMatcher one(warm, {}), other(cold, {});
  for (const std::int32_t token : {5, 3, 6, 7, kEnd}) {
    isTrue(std::ranges::equal(one.allowed({}), other.allowed({})), "equal masks");
    one.accept(token);
    other.accept(token);
  }
  test::equal(warm->knownStates(), known, "known states");
  const auto stopped = grammarOf(nested().tables(), vocabulary);
  stopped->warm(std::atomic<bool>{true});
  test::equal(stopped->knownStates(), std::size_t{0}, "known states of one that was told to stop");
}

TEST("grammar: what is known of a rule holds in other grammars that have it, with all that it calls") {
  // root ::= FIRST pair;  pair ::= "b" inner "b";  inner ::= INNER
  const auto draftOf = [](char first, char inner) {
    Draft draft;
    for (int state = 0; state < 8; ++state) draft.state(state == 2 || state == 5 || state == 7);
    draft.starts = {0, 3, 6};
    draft.edges[0] = {{first, 1}};
    draft.calls[1] = {{1, 2}};
    draft.edges[3] = {{'b', 4}};
    draft.calls[4] = {{2, 4}};
    draft.edges[4] = {{'b', 5}};
    draft.edges[6] = {{inner, 7}};
    return draft.tables();
  };
  RuleCache rules(vocabularyOf({"a", "b", "c", "bcb"}));
  const auto one = std::make_shared<Grammar>(draftOf('a', 'c'), rules);
  one->warm(std::atomic<bool>{false});
  const auto same = std::make_shared<Grammar>(draftOf('c', 'c'), rules);
  test::equal(same->knownStates(), one->knownStates() - 1, "known states, but for the root's");
  const auto other = std::make_shared<Grammar>(draftOf('a', 'a'), rules);
  test::equal(other->knownStates(), std::size_t{0}, "known states where what is called differs");
  for (const auto& [grammar, first, isIn] : {std::tuple{same, 4, true}, {other, 2, false}}) {
    GrammarMatcher matcher(grammar, {});
    matcher.accept(first);
    test::equal(has(matcher.allowed({}), 5), isIn, "bcb");
  }
}

TEST("grammar: the warmer ends with work before it, and passes over what nobody holds") {
  const auto vocabulary = vocabularyOf({"a", "b", "c"});
  const auto held = grammarOf(nested().tables(), vocabulary);
  {
    GrammarWarmer warmer;
    for (int i = 0; i < 100; ++i) warmer.post(grammarOf(nested().tables(), vocabulary));
    warmer.post(held);
    while (held->knownStates() == 0) std::this_thread::yield();
  }
  GrammarWarmer unfinished;
  for (int i = 0; i < 100; ++i) unfinished.post(held);
}

TEST("grammar: special tokens are text only where they are shown") {
  const auto grammar = grammarOf(nested().tables(), vocabularyOf({"a", "b", "c"}));
  isTrue(!has(GrammarMatcher(grammar, {}).allowed({}), kSpecial), "hidden");
  GrammarMatcher shown(grammar, {kSpecial});
  isTrue(has(shown.allowed({}), kSpecial), "shown");
  shown.accept(kSpecial);
  shown.accept(2);
  isTrue(!has(shown.allowed({}), kSpecial), "shown, but not allowed here");
}

TEST("grammar: suppressed tokens are left out unless nothing else may follow") {
  const auto grammar = grammarOf(nested().tables(), vocabularyOf({"a", "b", "c"}));
  GrammarMatcher matcher(grammar, {});
  const std::vector<std::int32_t> suppressed{2, kEnd};
  isTrue(!has(matcher.allowed(suppressed), 2) && has(matcher.allowed(suppressed), 3), "b is left");
  matcher.accept(2);
  isTrue(has(matcher.allowed(suppressed), kEnd), "the end has to come");
}

TEST("grammar: refuses tables that are no grammar, and what its vocabulary cannot write") {
  const auto vocabulary = vocabularyOf({"a", "b", "c"});
  const auto refuses = [&](auto change, const char* part) {
    GrammarTables tables = nested().tables();
    change(tables);
    throws([&] { grammarOf(tables, vocabulary); }, part);
  };
  refuses([](auto& t) { t.next[3] = 99; }, "transitions name state 99 of 4");
  refuses([](auto& t) { t.next.pop_back(); }, "no table");
  refuses([](auto& t) { t.callReturns[0] = -1; }, "calls name state -1");
  refuses([](auto& t) { t.callRules[0] = 1; }, "calls of rules name state 1");
  refuses(
      [](auto& t) {
        t.callBegins[2] = 0;
        t.callBegins[1] = 1;
      },
      "do not lie one behind another");
  refuses([](auto& t) { t.ruleStarts.clear(); }, "needs a state and a rule");
  refuses([](auto& t) { t.byteClasses[7] = 200; }, "no transitions");
  throws([&] { grammarOf(nested().tables(), vocabularyOf({"a", "b", "bc"})); }, "byte 99, which no token");
  TokenBytes noEnd{{'a', 'b', 'c'}, {0, 1, 2, 3}, {}, {}};
  const auto endless = std::make_shared<Vocabulary>(3, noEnd);
  throws([&] { grammarOf(nested().tables(), endless); }, "no token that ends an answer");
  throws([&] { Vocabulary(2, noEnd); }, "more tokens than a row of logits");
  throws([] { Vocabulary(3, {{'a'}, {0, 2}, {}, {}}); }, "do not lie one behind another");
}
