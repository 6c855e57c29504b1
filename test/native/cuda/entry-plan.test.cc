#include "cuda/entry-plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/decode-attention.h"

using namespace tandem;
using namespace tandem::test;

namespace {

const AttentionShape kShape{8, 2, 64};

// A token behind 600; 40 tokens of a sequence of which 64 were dropped, from the last places of a page on; a
// token of a sequence in partitions; a token behind 70.
const std::vector<EntryRows> kStepEntries{
    {0, 1, 600}, {1, 40, kPageTokens - 4, 64}, {41, 1, 320}, {42, 1, 70}};
const std::vector<PagePartitions> kStepPartitions{{}, {}, {{2, 1}, 0, 8}, {}};
const std::vector<std::int32_t> kStepTokens(43, 5);
const std::vector<KvTable> kStepTables{{3, 1, {}, {}}, {0, 1, {}, {}}, {2, 1, {}, {}}, {1, 1, {}, {}}};

StepPlan stepOf(std::span<const PagePartitions> partitions) {
  StepPlan plan;
  plan.tokens = kStepTokens;
  plan.entries = kStepEntries;
  plan.tables = kStepTables;
  plan.partitions = partitions;
  return plan;
}

}  // namespace

TEST("cuda entry plan: appends in pieces of pages, at positions that count what was dropped") {
  cuda::EntryPlan plan(kShape, 1 << 20);
  plan.layOut(stepOf(kStepPartitions));
  const std::vector<cuda::KvPiece> expected{{0, 1, 0, 600 / kPageTokens, 600 % kPageTokens},
                                            {1, 4, 1, 0, kPageTokens - 4},
                                            {5, kPageTokens, 1, 1, 0},
                                            {5 + kPageTokens, 36 - kPageTokens, 1, 2, 0},
                                            {41, 1, 2, 320 / kPageTokens, 320 % kPageTokens},
                                            {42, 1, 3, 70 / kPageTokens, 70 % kPageTokens}};
  test::equal(plan.pieces().size(), expected.size(), "pieces");
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const cuda::KvPiece &piece = plan.pieces()[i], &other = expected[i];
    isTrue(piece.row == other.row && piece.count == other.count && piece.sequence == other.sequence &&
               piece.page == other.page && piece.token == other.token,
           "piece " + std::to_string(i));
  }
  test::equal(plan.longestPiece(), kPageTokens, "rows of the longest piece");
  test::equal(plan.positions().size(), kStepTokens.size(), "positions");
  test::equal(plan.positions()[0], 600, "a token's position");
  for (int i = 0; i < 40; ++i) {
    test::equal(plan.positions()[static_cast<std::size_t>(1 + i)], 64 + kPageTokens - 4 + i, "behind others");
  }
}

TEST("cuda entry plan: attends to several tokens in tiles, and to single ones, but for those in partitions") {
  cuda::EntryPlan plan(kShape, 1 << 20);
  plan.layOut(stepOf(kStepPartitions));
  test::equal(plan.severals(), std::size_t{1}, "entries with several tokens");
  std::int32_t done = 0;
  for (const cuda::QueryTile& tile : plan.tiles()) {
    isTrue(tile.row == 1 + done && tile.position == kPageTokens - 4 + done && tile.sequence == 1,
           "a tile is where the one before it ends");
    isTrue(tile.count > 0 && tile.count <= cuda::prefillTileTokens(kShape.heads, kShape.kvHeads),
           "tokens of a tile");
    done += tile.count;
  }
  test::equal(done, 40, "tokens in tiles");
  const auto expectSingle = [&](std::size_t i, const cuda::EntryPlan::Single& expected) {
    const cuda::EntryPlan::Single& single = plan.singles()[i];
    isTrue(single.slot == expected.slot && single.row == expected.row && single.entry == expected.entry &&
               single.context == expected.context,
           "single " + std::to_string(i));
  };
  test::equal(plan.singles().size(), std::size_t{2}, "singles");
  expectSingle(0, {3, 0, 0, 601});
  expectSingle(1, {1, 42, 3, 71});
  isTrue(plan.groups().size() == 1 && plan.groups()[0].first == 0 && plan.groups()[0].count == 2,
         "singles that go together");
  test::equal(plan.groups()[0].mostTokens, cuda::EntryPlan::roundedContext(601), "the longest context");

  plan.layOut(stepOf({}));
  test::equal(plan.singles().size(), std::size_t{3}, "singles without partitions");
}

TEST("cuda entry plan: single tokens that there is no room for come in a group of their own") {
  const int longest = cuda::EntryPlan::roundedContext(601);
  cuda::EntryPlan plan(kShape, cuda::decodeAttentionScratch(2, longest, kShape.heads, kShape.headDim));
  plan.layOut(stepOf({}));
  test::equal(plan.groups().size(), std::size_t{2}, "groups");
  isTrue(plan.groups()[0].first == 0 && plan.groups()[0].count == 2, "as many as there is room for");
  isTrue(plan.groups()[1].first == 2 && plan.groups()[1].count == 1, "and the rest");
  test::equal(plan.groups()[1].mostTokens, cuda::EntryPlan::roundedContext(71), "by their own contexts");
}

TEST(
    "cuda entry plan: rounds contexts up by a quarter at most, and by less than 256 tokens where they are "
    "short") {
  for (const int tokens : {1, 256, 257, 1000, 5000, 131072, 131073}) {
    const int rounded = cuda::EntryPlan::roundedContext(tokens);
    isTrue(rounded >= tokens && rounded - tokens < std::max(256, (tokens + 3) / 4), std::to_string(tokens));
  }
}
