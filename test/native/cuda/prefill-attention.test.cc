#include "cuda/prefill-attention.h"

#include "cuda/prefill-kernels.h"
#include "paged-attention-case.h"

using namespace tandem;
using namespace tandem::test;

namespace {

const std::vector<std::vector<PrecisionClass>> kPrefillPools{
    {kBf16}, {kInt8}, {kBf16, kInt8, kInt4, kInt2, kInt4}};

using Rows = std::vector<std::vector<bf16>>;

// Tokens of a chunk that are looked at one by one: its ends and some between.
std::vector<std::int64_t> someOf(std::int64_t count) {
  std::vector<std::int64_t> some{0, 1, 30, 31, 32, 33, 63, 64, 100, count / 2, count - 2, count - 1};
  std::erase_if(some, [&](std::int64_t at) { return at < 0 || at >= count; });
  return some;
}

// A chunk against float64 and the CPU, and bit for bit against decode of some of its tokens.
void expectPrefill(const AttentionShape& shape, const std::vector<PrecisionClass>& classes,
                   std::int64_t position, std::int64_t count, float spread = 1) {
  PagedAttentionCase problem(shape, classes, {position + count});
  problem.spreadScores(spread);
  const Rows out = problem.prefill({{0, position, count}});
  std::vector<Chunk> tokens;
  for (const std::int64_t at : someOf(count)) {
    problem.expectReference(out[at], 0, position + at, std::string(nameOf(classes.back())) + " pages");
    tokens.push_back({0, position + at});
  }
  const Rows decoded = problem.decode(tokens);
  const Rows plain = problem.prefill({{0, position, count}}, cuda::prefillByMma);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string where = " at " + std::to_string(tokens[i].position) + ", " + nameOf(classes.back()) +
                              " pages, head dimension " + std::to_string(shape.headDim) + ", window " +
                              std::to_string(shape.window);
    expectSame(decoded[i], out[tokens[i].position - position], "decode" + where);
    expectSame(decoded[i], plain[tokens[i].position - position], "prefill by mma" + where);
  }
}

}  // namespace

TEST("cuda prefill attention: equals float64 and the CPU, and decode bit for bit, wherever a chunk begins") {
  for (const auto& classes : kPrefillPools) {
    expectPrefill({4, 2, 64}, classes, 0, 100);
    expectPrefill({4, 2, 64}, classes, 33, 40);
    expectPrefill({4, 2, 64}, classes, 250, 70);
    expectPrefill({4, 2, 64}, classes, 544, 1);
  }
}

TEST("cuda prefill attention: takes every head dimension, and groups of one to sixteen") {
  for (const auto& classes : kPrefillPools) {
    expectPrefill({3, 3, 32}, classes, 5, 65);
    expectPrefill({8, 1, 96}, classes, 5, 65);
    expectPrefill({4, 1, 128}, classes, 5, 135);
    expectPrefill({9, 1, 64}, classes, 5, 30);
    expectPrefill({16, 1, 128}, classes, 300, 20);
  }
}

TEST("cuda prefill attention: a window hides older tokens, whole runs of them too") {
  for (const auto& classes : kPrefillPools) {
    for (const int window : {1, 40, 300}) {
      expectPrefill({4, 2, 32, window}, classes, 0, 90);
      expectPrefill({4, 2, 32, window}, classes, 560, 40);
    }
  }
}

// Bases of probabilities stay behind scores that are a little higher, and follow those that are far higher.
TEST("cuda prefill attention: scores far apart raise what probabilities are counted from, in decode alike") {
  for (const auto& classes : kPrefillPools) {
    for (const float spread : {4.0f, 12.0f}) {
      expectPrefill({4, 2, 64}, classes, 250, 300, spread);
      expectPrefill({4, 1, 128}, classes, 120, 40, spread / 2);
    }
  }
}

TEST("cuda prefill attention: passes over pages that were given up, whole runs of them too") {
  std::vector<PrecisionClass> mostly(20, PrecisionClass::none);
  mostly[0] = kBf16;
  const std::vector<std::vector<PrecisionClass>> pools{mostly, {kInt8, PrecisionClass::none, kInt4}};
  for (const auto& classes : pools) {
    expectPrefill({4, 2, 64}, classes, 650, 30);
    expectPrefill({4, 2, 32, 100}, classes, 650, 30);
  }
}

TEST("cuda prefill attention: chunks of any size, alone or in a crowd, give a prompt's rows") {
  for (const auto& classes : kPrefillPools) {
    PagedAttentionCase problem({4, 1, 32}, classes, {400, 90});
    const Rows whole = problem.prefill({{0, 0, 400}});
    const Rows crowd = problem.prefill({{1, 10, 80}, {0, 0, 77}, {1, 0, 10}, {0, 77, 200}, {0, 277, 123}});
    const auto equalRows = [](const Rows& rows, std::size_t begin, const Rows& expected, std::size_t first,
                              std::size_t count) {
      return std::equal(rows.begin() + begin, rows.begin() + begin + count, expected.begin() + first);
    };
    isTrue(equalRows(crowd, 80, whole, 0, 77), "the first chunk");
    isTrue(equalRows(crowd, 167, whole, 77, 323), "the others");
    isTrue(equalRows(crowd, 0, problem.prefill({{1, 0, 90}}), 10, 80), "the other sequence");
  }
}

TEST("cuda prefill attention: refuses what it has no kernel for, by name") {
  const auto run = [&](int heads, PageFormat format) {
    cuda::PrefillAttention problem;
    problem.tables.format = format;
    problem.tileCount = 1;
    problem.heads = heads;
    cuda::prefillAttention(problem, kStream);
  };
  throws([&] { run(2, {PrecisionClass::bf16, 1, 80}); }, "not 80");
  throws([&] { run(17, {PrecisionClass::bf16, 1, 64}); }, "16 query heads");
  throws([&] { run(3, {PrecisionClass::bf16, 2, 64}); }, "multiple of kvHeads");
}
