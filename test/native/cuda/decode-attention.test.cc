#include "cuda/decode-attention.h"

#include "paged-attention-case.h"

using namespace tandem;
using namespace tandem::test;

namespace {

const std::vector<std::vector<PrecisionClass>> kDecodePools{
    {kBf16}, {kInt8}, {kBf16, kInt4, kInt4}, {kInt8, kInt2, kInt2}, {kBf16, kInt8, kInt4, kInt2, kInt4}};

// One of the pool's class, then enough of a packed one for whole rounds of it.
std::vector<std::vector<PrecisionClass>> packedRounds() {
  std::vector<std::vector<PrecisionClass>> pools{{kBf16}, {kInt8}};
  for (auto& pool : pools) pool.insert(pool.end(), 8, pool[0] == kBf16 ? kInt4 : kInt2);
  return pools;
}

// The last tokens of sequences of these lengths, together.
void expectDecode(const AttentionShape& shape, const std::vector<PrecisionClass>& classes,
                  const std::vector<std::int64_t>& contexts) {
  PagedAttentionCase problem(shape, classes, contexts);
  std::vector<Chunk> tokens;
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    tokens.push_back({static_cast<int>(i), contexts[i] - 1});
  }
  const std::vector<std::vector<bf16>> out = problem.decode(tokens);
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    problem.expectReference(out[i], static_cast<int>(i), contexts[i] - 1,
                            std::string(nameOf(classes.back())) + " pages");
  }
}

}  // namespace

TEST("cuda decode attention: equals float64 and the CPU for contexts around pages, steps and runs") {
  for (const auto& classes : kDecodePools) {
    expectDecode({4, 2, 64}, classes, {1, 31, 32, 33, 64, 65, 255, 256, 257, 600});
  }
}

TEST("cuda decode attention: takes every head dimension, and groups of one to sixteen") {
  for (const auto& classes : kDecodePools) {
    expectDecode({3, 3, 32}, classes, {70});
    expectDecode({8, 1, 96}, classes, {70});
    expectDecode({8, 2, 128}, classes, {140});
    expectDecode({9, 1, 64}, classes, {70});
    expectDecode({16, 1, 128}, classes, {140});
  }
}

TEST("cuda decode attention: takes rounds whose pages are all of the same packed class") {
  for (const auto& classes : packedRounds()) {
    for (const int group : {1, 4, 8, 16}) expectDecode({group, 1, 128}, classes, {300, 600});
    for (const int headDim : {32, 64, 96}) expectDecode({4, 2, headDim}, classes, {300, 600});
    expectDecode({4, 2, 128, 200}, classes, {290, 600});
  }
}

TEST("cuda decode attention: a window hides older tokens, whole runs of them too") {
  for (const auto& classes : kDecodePools) {
    for (const int window : {1, 40, 300}) expectDecode({4, 2, 32, window}, classes, {1, 40, 290, 600});
  }
}

TEST("cuda decode attention: passes over pages that were given up, whole runs of them too") {
  std::vector<PrecisionClass> mostly(20, PrecisionClass::none);
  mostly[0] = kBf16;
  const std::vector<std::vector<PrecisionClass>> pools{mostly, {kInt8, PrecisionClass::none, kInt4}};
  for (const auto& classes : pools) {
    expectDecode({4, 2, 64}, classes, {64, 96, 700});
    expectDecode({4, 2, 32, 100}, classes, {700});
  }
}

TEST("cuda decode attention: a sequence's bits do not depend on its neighbours") {
  for (const auto& classes : kDecodePools) {
    PagedAttentionCase problem({4, 2, 32}, classes, {700, 5, 1300, 64});
    const std::vector<Chunk> tokens{{0, 699}, {1, 4}, {2, 1299}, {3, 63}, {2, 400}};
    const std::vector<std::vector<bf16>> together = problem.decode(tokens);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      isTrue(problem.decode({tokens[i]})[0] == together[i], "sequence " + std::to_string(tokens[i].sequence));
    }
  }
}

// So many sequences that a block takes several runs of one, which a few sequences do not let it.
TEST("cuda decode attention: a sequence's bits are the same in a crowd of hundreds") {
  for (const auto& [classes, others] : {std::pair{kDecodePools[0], 1400}, {kDecodePools[4], 700}}) {
    PagedAttentionCase problem({4, 4, 32}, classes, {1300, 5});
    std::vector<Chunk> tokens{{0, 1299}, {0, 530}};
    tokens.resize(tokens.size() + others, {1, 4});
    const std::vector<std::vector<bf16>> together = problem.decode(tokens);
    for (const std::size_t i : {0, 1, 2}) {
      isTrue(problem.decode({tokens[i]})[0] == together[i], "sequence " + std::to_string(i));
    }
  }
}

TEST("cuda decode attention: refuses what it has no kernel for, by name") {
  const auto run = [&](int heads, PageFormat format) {
    cuda::DecodeAttention problem;
    problem.tables.format = format;
    problem.sequences = problem.mostTokens = 1;
    problem.heads = heads;
    cuda::decodeAttention(problem, kStream);
  };
  throws([&] { run(2, {PrecisionClass::bf16, 1, 80}); }, "not 80");
  throws([&] { run(17, {PrecisionClass::bf16, 1, 64}); }, "16 query heads");
  throws([&] { run(3, {PrecisionClass::bf16, 2, 64}); }, "multiple of kvHeads");
}
