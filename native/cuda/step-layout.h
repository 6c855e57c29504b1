#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/ops.h"
#include "cuda/entry-plan.h"
#include "cuda/gather-pages.h"
#include "cuda/partition-plan.h"
#include "cuda/partitioned-row.h"
#include "cuda/probe-plan.h"
#include "cuda/sight-plan.h"
#include "cuda/step-block.h"
#include "cuda/table-upload.h"

namespace tandem::cuda {

// What of a step's plan lies on the device.
struct StepArrays {
  std::int64_t rows = 0;
  std::size_t entries = 0;
  std::int32_t* tokens = nullptr;           // [rows]
  const std::int32_t* positions = nullptr;  // [rows]
  const std::int32_t* slots = nullptr;      // [entries]
  const std::int32_t* carried = nullptr;    // [rows], or null
  // Of an EntryPlan.
  const KvPiece* pieces = nullptr;
  const QueryTile* tiles = nullptr;
  const std::int32_t* contexts = nullptr;  // [singles], as the next two
  const std::int32_t* singleSlots = nullptr;
  const std::int32_t* singleRows = nullptr;
  // Of a ProbePlan, and of a PartitionPlan.
  const ProbeTile* probes = nullptr;
  const PartitionedRow* partitionedRows = nullptr;
  const std::int32_t* turns = nullptr;  // tokens by which queries are turned
  // Of a step with entries that do not look everywhere; see SightPlan. A row of the gathered table is an
  // entry's.
  const SeenRow* seenRows = nullptr;
  const SeenWord* seenWords = nullptr;
  const QueryTile* closedTiles = nullptr;
  const std::int32_t* closedContexts = nullptr;
  const std::int32_t* rowsOfEntries = nullptr;  // [entries]
  const std::int32_t* rowsOfSingles = nullptr;  // [singles]
};

// A step's plan, laid out for the kernels of a lane and uploaded in one block with what the page tables lack.
// Steps of the same kind have the same arrays at the same places, on which recorded kernels rely.
class StepLayout {
 public:
  // Where a launch has so many bytes for the parts of attention, or of probes, and room for so many sums.
  StepLayout(const LaneLimits& limits, SlotTables& tables, std::size_t partsBytes, std::size_t sums);

  StepArrays layOut(const StepPlan& plan, Stream stream);

  // What the host goes by, of the plan that was laid out last.
  const EntryPlan& entries() const { return entries_; }
  const ProbePlan& probes() const { return probes_; }
  const SightPlan& sight() const { return sight_; }
  const PartitionPlan& partitions() const { return partitions_; }

 private:
  void layOutEntries(const StepPlan& plan, StepArrays& arrays);
  void layOutProbes(const StepPlan& plan, StepArrays& arrays);
  void layOutSight(const StepPlan& plan, StepArrays& arrays);
  void layOutPartitions(const StepPlan& plan, StepArrays& arrays);
  void layOutCarried(const StepPlan& plan, StepArrays& arrays);

  const int layers_;
  StepBlock block_;
  TableUpload tables_;
  EntryPlan entries_;
  ProbePlan probes_;
  SightPlan sight_;
  std::vector<SightPlan::Single> ofSingles_;  // kept, so that a step allocates nothing
  PartitionPlan partitions_;
};

}  // namespace tandem::cuda
