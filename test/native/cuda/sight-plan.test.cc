#include "cuda/sight-plan.h"

#include <vector>

#include "check.h"

using namespace tandem;
using namespace tandem::test;

TEST("cuda sight plan: says what each layer sees, and where tokens are behind that alone") {
  // A sparse entry of 40 tokens behind 1100 and a sparse one of a token; between them one that sees all.
  const std::vector<EntryRows> entries{{0, 40, 1100}, {40, 3, 64}, {43, 1, 70}};
  std::vector<std::uint8_t> isSeen(2 * 33, 0);
  isSeen[0] = isSeen[32] = 1;                       // of layer 0
  for (int i = 33; i < 66; ++i) isSeen[i] = i % 2;  // of layer 1: the first and every second
  const std::vector<std::uint8_t> few{0, 1};
  const std::vector<SeenPages> sight{{33, isSeen}, {}, {1, few}};
  StepPlan plan;
  plan.entries = entries;
  plan.sight = sight;
  const std::vector<cuda::QueryTile> tiles{{0, 32, 0, 1100}, {32, 8, 0, 1132}, {40, 3, 1, 64}};
  const std::vector<cuda::SightPlan::Single> singles{{2, 71}};
  cuda::SightPlan made;
  made.layOut(plan, 2, tiles, singles);

  test::equal(made.mostPages(), 36, "pages of the longest");
  test::equal(made.rows().size(), std::size_t{6}, "rows");
  const auto wordOf = [&](int layer, int entry, int word) {
    return made.words()[static_cast<std::size_t>(made.rows()[3 * layer + entry].word + word)];
  };
  isTrue(wordOf(0, 0, 0).bits == 1 && wordOf(0, 0, 0).before == 0, "pages 0 to 31 in layer 0");
  isTrue(wordOf(0, 0, 1).bits == 0xf && wordOf(0, 0, 1).before == 1, "pages 32 to 35 in layer 0");
  isTrue(wordOf(1, 0, 0).bits == 0x55555555u && wordOf(1, 0, 1).bits == 0xf, "layer 1");
  isTrue(wordOf(1, 0, 1).before == 16, "seen before the second word of layer 1");
  isTrue(wordOf(0, 1, 0).bits == 7 && wordOf(1, 1, 0).bits == 7, "the entry that sees all");
  isTrue(wordOf(0, 2, 0).bits == 6 && wordOf(1, 2, 0).bits == 7, "the entry of one token");

  const std::int32_t missing[] = {31 * kPageTokens, 16 * kPageTokens};
  for (int layer = 0; layer < 2; ++layer) {
    const auto* ofLayer = made.closedTiles().data() + 3 * layer;
    test::equal(ofLayer[0].position, 1100 - missing[layer], "the first tile");
    test::equal(ofLayer[1].position, 1132 - missing[layer], "the second tile");
    test::equal(ofLayer[2].position, 64, "the tile that sees all");
    isTrue(ofLayer[1].row == 32 && ofLayer[1].count == 8 && ofLayer[1].sequence == 0, "the rest of a tile");
  }
  isTrue(made.closedContexts() == std::vector<std::int32_t>{71 - kPageTokens, 71}, "contexts");

  plan.sight = {};
  made.layOut(plan, 2, tiles, singles);
  isTrue(made.empty(), "where all look everywhere");
}
