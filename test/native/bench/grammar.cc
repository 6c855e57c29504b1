// What following a grammar adds to a step, for one sequence: the mask of the tokens that may follow, and
// taking in the one that did. Cold, with nothing known of the grammar; and warm, after what the device's
// warmer does meanwhile. The next answer of the same form finds the masks of the first.
//
//   node test/native/bench/grammar-case.mjs models/demo case.bin
//   bench-grammar case.bin

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "core/error.h"
#include "grammar/matcher.h"

using namespace tandem;

namespace {

template <class T>
std::vector<T> column(std::ifstream& file) {
  std::int64_t bytes = 0;
  file.read(reinterpret_cast<char*>(&bytes), sizeof bytes);
  check(file && bytes >= 0 && bytes < (std::int64_t{1} << 32), "the case is cut short");
  std::vector<T> values(static_cast<std::size_t>(bytes) / sizeof(T));
  file.read(reinterpret_cast<char*>(values.data()), bytes);
  check(static_cast<bool>(file), "the case is cut short");
  return values;
}

template <class Body>
double microseconds(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

void report(const char* what, std::vector<double> values) {
  std::ranges::sort(values);
  double sum = 0;
  for (const double value : values) sum += value;
  const auto at = [&](double share) {
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
  };
  std::printf("%-28s median %8.2f us   p90 %8.2f us   max %8.2f us   mean %8.2f us\n", what, at(0.5), at(0.9),
              at(1), sum / static_cast<double>(values.size()));
}

void follow(const std::shared_ptr<Grammar>& grammar, const std::vector<std::int32_t>& tokens,
            const char* what) {
  GrammarMatcher matcher(grammar, {});
  std::vector<double> masks, accepts;
  for (const std::int32_t token : tokens) {
    masks.push_back(microseconds([&] {
      const auto allowed = matcher.allowed({});
      check((allowed[token / 32] >> (token % 32) & 1) != 0, "the answer does not follow the grammar");
    }));
    accepts.push_back(microseconds([&] { matcher.accept(token); }));
  }
  report((std::string(what) + ", mask").c_str(), masks);
  report((std::string(what) + ", accept").c_str(), accepts);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    check(argc == 2, "usage: bench-grammar CASE");
    std::ifstream file(argv[1], std::ios::binary);
    check(static_cast<bool>(file), "the case cannot be opened");
    TokenBytes bytes{column<std::uint8_t>(file), column<std::int32_t>(file), column<std::int32_t>(file),
                     column<std::int32_t>(file)};
    GrammarTables tables{column<std::uint8_t>(file), column<std::int32_t>(file), column<std::int32_t>(file),
                         column<std::int32_t>(file), column<std::int32_t>(file), column<std::uint8_t>(file),
                         column<std::int32_t>(file)};
    const std::vector<std::int32_t> tokens = column<std::int32_t>(file);
    std::shared_ptr<const Vocabulary> vocabulary;
    const auto count = static_cast<int>(bytes.begins.size()) - 1;
    std::printf(
        "trie of the vocabulary: %.1f ms\n",
        microseconds([&] { vocabulary = std::make_shared<Vocabulary>(count, std::move(bytes)); }) / 1e3);
    RuleCache rules(vocabulary);
    const auto cold = std::make_shared<Grammar>(tables, rules);
    follow(cold, tokens, "cold, first answer");
    follow(cold, tokens, "cold, next answer");
    RuleCache others(vocabulary);
    const auto warm = std::make_shared<Grammar>(std::move(tables), others);
    const std::atomic<bool> stop{false};
    const double warming = microseconds([&] { warm->warm(stop); }) / 1e3;
    std::printf("warming %zu states: %.1f ms\n", warm->knownStates(), warming);
    follow(warm, tokens, "warm, first answer");
    follow(warm, tokens, "warm, next answer");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-grammar: %s\n", error.what());
    return 1;
  }
}
