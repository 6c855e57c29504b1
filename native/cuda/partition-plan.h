#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/ops.h"
#include "cuda/partition-attention.h"

namespace tandem::cuda {

// The rows of a step that see a selection of their sequence's pages, the turns of their queries, and as many
// rows together as there is memory for.
class PartitionPlan {
 public:
  // Rows that are launched together. Those of entries with several tokens come first.
  struct Group {
    int firstRow = 0;
    PartitionSizes sizes;
    bool ofSeveral = false;  // tokens an entry
  };

  // What the rows of a lane take at most: of scratch memory, of all of a step's as far as that is worth it,
  // and of turns. Nothing where no selection is made.
  static std::size_t scratchBytes(const LaneLimits& limits);
  static std::int64_t mostTurns(const LaneLimits& limits);

  explicit PartitionPlan(const LaneLimits& limits);

  // Throws Error if an entry's partitions do not fit its place, or the lane was opened without a selection.
  void layOut(const StepPlan& plan);

  bool empty() const { return rows_.empty(); }
  const std::vector<PartitionedRow>& rows() const { return rows_; }
  // Tokens by which each turn goes, none of them forward.
  const std::vector<std::int32_t>& turns() const { return turns_; }
  const std::vector<Group>& groups() const { return groups_; }
  int topPages() const { return topPages_; }
  int scoredPages() const { return scoredPages_; }

 private:
  static std::size_t scratchOf(const PartitionSizes& sizes, const LaneLimits& limits);
  void validate(const StepPlan& plan, std::size_t entry) const;
  std::int64_t roundedMid(std::int64_t pages) const;
  void addRow(const PartitionedRow& row, bool ofSeveral);

  const LaneLimits limits_;
  const std::size_t scratchBytes_;
  const int topPages_;
  const int scoredPages_;
  std::vector<PartitionedRow> rows_;
  std::vector<std::int32_t> turns_;
  std::vector<Group> groups_;
};

}  // namespace tandem::cuda
