#include "cuda/probe-plan.h"

#include <vector>

#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

const AttentionShape kShape{8, 2, 64};  // 8 rows a tile

// Three runs of two entries: 20 rows at 40, one at 100, three at 60.
const std::vector<EntryRows> kProbedEntries{{0, 10, 100}, {10, 40, 30}};
const std::vector<EntryRows> kProbes{{20, 20, 40}, {0, 1, 100}, {45, 3, 65}};

}  // namespace

TEST("cuda probe plan: cuts runs into tiles, whose sums lie side by side") {
  cuda::ProbePlan plan(kShape, 1 << 20, 1000);
  plan.layOut(kProbes, kProbedEntries);
  isTrue(plan.pages() == std::vector<std::size_t>{2, 4, 3}, "pages of the runs");
  test::equal(plan.groups().size(), std::size_t{1}, "groups");
  const cuda::ProbePlan::Group& group = plan.groups()[0];
  isTrue(group.firstTile == 0 && group.tiles == 5 && group.firstRun == 0 && group.runs == 3, "all together");
  isTrue(group.mostRows == 8 && group.mostTokens == 101, "the largest of the tiles");
  const std::vector<cuda::ProbeTile> expected{
      {20, 8, 1, 40, 0}, {28, 8, 1, 48, 0}, {36, 4, 1, 56, 0}, {0, 1, 0, 100, 2}, {45, 3, 1, 65, 6}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const cuda::ProbeTile &tile = plan.tiles()[i], &other = expected[i];
    isTrue(tile.row == other.row && tile.count == other.count && tile.sequence == other.sequence &&
               tile.position == other.position && tile.sums == other.sums,
           "tile " + std::to_string(i));
  }
  plan.layOut({}, kProbedEntries);
  isTrue(plan.empty() && plan.groups().empty(), "nothing to look at");
}

TEST("cuda probe plan: tiles that there is no room for come in a group of their own, runs in more than one") {
  const std::size_t one = cuda::probeScratch(1, 8, 60, kShape.heads, kShape.kvHeads);
  cuda::ProbePlan plan(kShape, 2 * one, 1000);
  plan.layOut({kProbes.data(), 1}, kProbedEntries);
  test::equal(plan.groups().size(), std::size_t{2}, "groups by parts");
  isTrue(plan.groups()[0].tiles == 2 && plan.groups()[1].tiles == 1, "tiles of each");
  isTrue(plan.groups()[1].firstRun == 0 && plan.groups()[1].runs == 1, "the second is of the same run");
  test::equal(plan.tiles()[2].sums, 0, "its sums have a new place");

  cuda::ProbePlan few(kShape, 1 << 20, 6);
  few.layOut(kProbes, kProbedEntries);
  test::equal(few.groups().size(), std::size_t{2}, "groups by sums");
  isTrue(few.groups()[0].runs == 2 && few.groups()[1].firstRun == 2, "runs of each");
  test::equal(few.tiles()[4].sums, 0, "the last run's sums");
}

TEST("cuda probe plan: refuses rows that are nobody's") {
  cuda::ProbePlan plan(kShape, 1 << 20, 1000);
  const std::vector<EntryRows> beyond{{45, 6, 65}};
  throws([&] { plan.layOut(beyond, kProbedEntries); }, "not an entry's");
}
