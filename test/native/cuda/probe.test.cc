#include "cuda/probe.h"

#include "paged-attention-case.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr PrecisionClass kNone = PrecisionClass::none;

const std::vector<std::vector<PrecisionClass>> kProbePools{{kBf16, kInt4, kInt8, kInt2, kNone},
                                                           {kInt8, kNone, kInt2, kInt4}};

void expectProbe(const AttentionShape& shape, const std::vector<Chunk>& chunks) {
  std::int64_t tokens = 0;
  for (const Chunk& chunk : chunks) tokens = std::max(tokens, chunk.position + chunk.count);
  for (const auto& classes : kProbePools) {
    PagedAttentionCase problem(shape, classes, {tokens});
    const auto sums = problem.probe(chunks, cuda::probeTileTokens(shape.heads, shape.kvHeads));
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      problem.expectProbed(sums[i], chunks[i],
                           std::string("a pool of ") + nameOf(classes[0]) + ", head dimension " +
                               std::to_string(shape.headDim) + ", position " +
                               std::to_string(chunks[i].position));
    }
  }
}

}  // namespace

TEST("cuda probe: parts of a row's attention equal float64 and the CPU, over pages of every class and none") {
  expectProbe({4, 2, 64}, {{0, 0, 1}, {0, 31, 2}, {0, 300, 30}});
  expectProbe({3, 3, 32}, {{0, 1070, 3}});
  expectProbe({4, 2, 32, 100}, {{0, 90, 1}, {0, 250, 30}});
  expectProbe({8, 1, 96}, {{0, 69, 1}});
  expectProbe({16, 1, 128}, {{0, 130, 3}});
}

TEST("cuda probe: sums are the same bits alone and in a crowd, for any cut of the rows") {
  const std::vector<std::vector<Chunk>> cuts{
      {{0, 260, 40}},
      {{1, 0, 5}, {0, 260, 40}, {1, 50, 9}},
      {{0, 260, 1}, {0, 261, 30}, {0, 291, 9}, {1, 3, 1}},
  };
  for (const int window : {0, 150}) {
    PagedAttentionCase problem({4, 2, 32, window}, kProbePools[0], {300, 70});
    std::vector<std::uint32_t> whole;
    for (const auto& chunks : cuts) {
      for (const int tileRows : {1, 3, cuda::probeTileTokens(4, 2)}) {
        const auto sums = problem.probe(chunks, tileRows);
        std::vector<std::uint32_t> all(10, 0);
        for (std::size_t i = 0; i < chunks.size(); ++i) {
          if (chunks[i].sequence != 0) continue;
          for (std::size_t page = 0; page < sums[i].size(); ++page) all[page] += sums[i][page];
        }
        if (whole.empty()) whole = all;
        isTrue(all == whole, "in tiles of " + std::to_string(tileRows) + " rows");
      }
    }
  }
}

TEST("cuda probe: what is not a number counts as nothing") {
  PagedAttentionCase problem({1, 1, 32}, {kBf16}, {70});
  problem.spoilQuery(0, 69);
  const auto sums = problem.probe({{0, 68, 2}, {0, 69, 1}}, 2);
  std::uint32_t total = 0;
  for (const std::uint32_t sum : sums[0]) total += sum;
  near(static_cast<double>(total) / kSaliencyUnits, 1, 1e-5, "the row beside it");
  isTrue(sums[1] == std::vector<std::uint32_t>(3, 0), "the row itself");
}

TEST("cuda probe: refuses what it has no kernel for, by name") {
  const auto run = [&](int heads, int rows, PageFormat format) {
    cuda::Probe problem;
    problem.tables.format = format;
    problem.tileCount = 1;
    problem.mostRows = rows;
    problem.heads = heads;
    cuda::probe(problem, kStream);
  };
  throws([&] { run(2, 1, {kBf16, 1, 80}); }, "not 80");
  throws([&] { run(17, 1, {kBf16, 1, 64}); }, "16 query heads");
  throws([&] { run(3, 1, {kBf16, 2, 64}); }, "multiple of kvHeads");
  throws([&] { run(2, 17, {kBf16, 1, 64}); }, "more rows than it may have");
}
