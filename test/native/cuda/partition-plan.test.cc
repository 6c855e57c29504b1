#include "cuda/partition-plan.h"

#include <vector>

#include "check.h"
#include "cuda/partition-runs.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr PageSelection kSelection{2, 4};

LaneLimits limitsFor(std::int64_t rows) {
  LaneLimits limits;
  limits.rows = rows;
  limits.slots = 4;
  limits.slotPages = 40;
  limits.attention = {8, 2, 64};
  limits.selection = kSelection;
  return limits;
}

// Three tokens behind 31 pages, of which two are sink and 20 mid; two of a sequence that is seen whole; a
// token of one of which 100 pages were dropped.
const std::vector<EntryRows> kEntries{
    {0, 3, 31 * kPageTokens}, {3, 2, 64}, {5, 1, 9 * kPageTokens + 7, 3200}};
const std::vector<PagePartitions> kPartitions{{kSelection, 0, 22}, {kSelection, 0, 2}, {kSelection, 100, 5}};

StepPlan planOf(const std::vector<EntryRows>& entries, const std::vector<PagePartitions>& partitions) {
  StepPlan plan;
  plan.entries = entries;
  plan.partitions = partitions;
  return plan;
}

}  // namespace

TEST("cuda partition plan: rows of sequences with absent pages, and by what their queries are turned") {
  cuda::PartitionPlan plan(limitsFor(64));
  plan.layOut(planOf(kEntries, kPartitions));
  test::equal(plan.rows().size(), std::size_t{4}, "rows");
  const auto expectRow = [&](std::size_t i, const cuda::PartitionedRow& expected) {
    const cuda::PartitionedRow& row = plan.rows()[i];
    isTrue(row.row == expected.row && row.sequence == expected.sequence &&
               row.position == expected.position && row.sinkPages == expected.sinkPages &&
               row.midEnd == expected.midEnd && row.sinkTurn == expected.sinkTurn,
           "row " + std::to_string(i));
  };
  // Room for as much of mid as a slot has pages.
  for (int i = 0; i < 3; ++i) expectRow(static_cast<std::size_t>(i), {i, 0, 31 * kPageTokens + i, 2, 22, 40});
  expectRow(3, {5, 2, 9 * kPageTokens + 7, 2, 5, 41});
  test::equal(plan.turns().size(), std::size_t{42}, "turns of mid pages, then of both sinks");
  for (int i = 0; i < 40; ++i)
    test::equal(plan.turns()[static_cast<std::size_t>(i)], -i * kPageTokens, "a mid page");
  test::equal(plan.turns()[40], -16 * kPageTokens, "of 20 mid pages four are seen");
  test::equal(plan.turns()[41], -100 * kPageTokens, "dropped pages");

  isTrue(plan.groups().size() == 2 && plan.groups()[0].ofSeveral && !plan.groups()[1].ofSeveral, "groups");
  const cuda::PartitionSizes &several = plan.groups()[0].sizes, &single = plan.groups()[1].sizes;
  isTrue(several.rows == 3 && several.mostMid == 40 && several.mostRuns == 1 + 4 + 2, "of several tokens");
  isTrue(single.rows == 1 && single.mostMid == 40 && single.mostRuns == 1 + 3 + 1, "of one token");

  plan.layOut(planOf(kEntries, {}));
  isTrue(plan.empty() && plan.groups().empty(), "where all is seen");
}

TEST("cuda partition plan: rows that there is no room for come in a group of their own") {
  // Longer than a launch has room for.
  LaneLimits limits = limitsFor(4096);
  limits.attention = {32, 8, 128};
  const std::vector<EntryRows> entries{{0, 2000, 31 * kPageTokens}};
  cuda::PartitionPlan plan(limits);
  plan.layOut(planOf(entries, {kPartitions[0]}));
  isTrue(plan.groups().size() > 1, "several groups");
  int rows = 0;
  for (const cuda::PartitionPlan::Group& group : plan.groups()) {
    test::equal(group.firstRow, rows, "the first row of a group");
    rows += group.sizes.rows;
    const std::size_t taken = cuda::partitionScratch(group.sizes, 32, 8, 128, 4, kScoredPages);
    isTrue(taken <= cuda::PartitionPlan::scratchBytes(limits), "there is room for a group");
  }
  test::equal(rows, 2000, "rows of all groups");
}

TEST("cuda partition plan: refuses partitions that do not fit, and a lane without a selection") {
  cuda::PartitionPlan plan(limitsFor(64));
  const auto layOut = [&](PagePartitions partitions) {
    const std::vector<EntryRows> entries{{0, 1, 300}};
    plan.layOut(planOf(entries, {partitions}));
  };
  throws([&] { layOut({kSelection, 3, 10}); }, "do not fit its page table");
  throws([&] { layOut({{2, 9}, 3, 8}); }, "another selection");
  throws([&] { layOut({kSelection, std::int64_t{1} << 27, 8}); }, "too long");
  LaneLimits none = limitsFor(64);
  none.selection.reset();
  test::equal(cuda::PartitionPlan::scratchBytes(none), std::size_t{0}, "memory without a selection");
  test::equal(cuda::PartitionPlan::mostTurns(none), std::int64_t{0}, "turns without a selection");
  cuda::PartitionPlan other(none);
  throws([&] { other.layOut(planOf(kEntries, kPartitions)); }, "another selection");
}
