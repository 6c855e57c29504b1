#include "cuda/partition-plan.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "cuda/partition-runs.h"

namespace tandem::cuda {
namespace {

// What rows together may take, if one does not take more: 256 tokens of Llama-3.1-8B's shape, which are
// stepped over at once.
constexpr std::size_t kScratchBytes = std::size_t{160} << 20;

// Mid grows with a sequence until it is full. A launch has room for multiples of so many pages, so that not
// every step is of another kind (step-graphs.h).
constexpr std::int64_t kMidStep = 64;

// Rows and KV heads of a launch.
constexpr int kMostSequences = 65535;

}  // namespace

std::size_t PartitionPlan::scratchOf(const PartitionSizes& sizes, const LaneLimits& limits) {
  const auto& [heads, kvHeads, headDim, window] = limits.attention;
  return partitionScratch(sizes, heads, kvHeads, headDim, static_cast<int>(limits.selection->topPages),
                          static_cast<int>(limits.selection->scoredPages));
}

std::size_t PartitionPlan::scratchBytes(const LaneLimits& limits) {
  if (!limits.selection) return 0;
  // A row that sees all that a slot may hold.
  const auto pages = static_cast<int>(limits.slotPages);
  const PartitionedRow longest{0, 0, (pages - 1) * kPageTokens, 0, 0, 0};
  const int runs = runsOf(longest, 0) + 2 +
                   static_cast<int>(std::min<std::int64_t>(limits.slotPages, limits.selection->topPages));
  const std::size_t one = scratchOf({1, pages, runs}, limits);
  const auto all = static_cast<double>(one) * static_cast<double>(limits.rows);
  return all < static_cast<double>(kScratchBytes) ? static_cast<std::size_t>(all)
                                                  : std::max(one, kScratchBytes);
}

std::int64_t PartitionPlan::mostTurns(const LaneLimits& limits) {
  return limits.selection ? limits.slotPages + limits.slots + 1 : 0;
}

PartitionPlan::PartitionPlan(const LaneLimits& limits)
    : limits_(limits),
      scratchBytes_(scratchBytes(limits)),
      topPages_(limits.selection ? static_cast<int>(limits.selection->topPages) : 0),
      scoredPages_(limits.selection ? static_cast<int>(limits.selection->scoredPages) : 0) {}

void PartitionPlan::layOut(const StepPlan& plan) {
  rows_.clear();
  turns_.clear();
  groups_.clear();
  if (plan.partitions.empty()) return;
  std::int64_t longest = 1;  // mid partition, rounded up
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    if (!plan.isPartitioned(i)) continue;
    validate(plan, i);
    longest = std::max(longest, roundedMid(plan.partitions[i].midPages()));
  }
  for (std::int64_t pages = 0; pages < longest; ++pages) {
    turns_.push_back(static_cast<std::int32_t>(-pages * kPageTokens));
  }
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    if (!plan.isPartitioned(i)) continue;
    const EntryRows& entry = plan.entries[i];
    const PagePartitions& partitions = plan.partitions[i];
    const auto sinkTurn = static_cast<std::int32_t>(turns_.size());
    turns_.push_back(static_cast<std::int32_t>(-partitions.absentPages() * kPageTokens));
    for (std::int64_t token = 0; token < entry.count; ++token) {
      addRow({static_cast<std::int32_t>(entry.row + token), static_cast<std::int32_t>(i),
              static_cast<std::int32_t>(entry.position + token),
              static_cast<std::int32_t>(partitions.selection.sinkPages),
              static_cast<std::int32_t>(partitions.midEnd), sinkTurn},
             entry.count > 1);
    }
  }
}

void PartitionPlan::validate(const StepPlan& plan, std::size_t entry) const {
  const auto& [selection, dropped, midEnd] = plan.partitions[entry];
  check(limits_.selection && selection.topPages == limits_.selection->topPages &&
            selection.scoredPages == limits_.selection->scoredPages,
        "attendPartitions: the lane was opened for another selection of pages");
  check(selection.sinkPages >= 0 && dropped >= 0 && selection.sinkPages <= midEnd &&
            midEnd * kPageTokens <= plan.entries[entry].position,
        "attendPartitions: an entry's partitions do not fit its page table");
  check(plan.partitions[entry].absentPages() <= std::numeric_limits<std::int32_t>::max() / kPageTokens,
        "attendPartitions: a sequence is too long");
  check(plan.sight.empty() || plan.sight[entry].pages == 0,
        "attendPartitions: rows of a sequence in partitions must look everywhere in it");
}

std::int64_t PartitionPlan::roundedMid(std::int64_t pages) const {
  return std::min((pages + kMidStep - 1) / kMidStep * kMidStep, limits_.slotPages);
}

void PartitionPlan::addRow(const PartitionedRow& row, bool ofSeveral) {
  const auto number = static_cast<int>(rows_.size());
  rows_.push_back(row);
  const int mid = static_cast<int>(roundedMid(row.midPages())), runs = runsOf(row, topPages_);
  if (!groups_.empty() && groups_.back().ofSeveral == ofSeveral) {
    PartitionSizes& sizes = groups_.back().sizes;
    const PartitionSizes with{sizes.rows + 1, std::max(sizes.mostMid, mid), std::max(sizes.mostRuns, runs)};
    if (with.rows * limits_.attention.kvHeads <= kMostSequences &&
        scratchOf(with, limits_) <= scratchBytes_) {
      sizes = with;
      return;
    }
  }
  groups_.push_back({number, {1, mid, runs}, ofSeveral});
}

}  // namespace tandem::cuda
