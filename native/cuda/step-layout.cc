#include "cuda/step-layout.h"

#include <algorithm>
#include <ranges>

#include "core/error.h"

namespace tandem::cuda {
namespace {

using Single = EntryPlan::Single;

std::size_t blockBytes(const LaneLimits& limits) {
  const auto rows = static_cast<std::size_t>(limits.rows), slots = static_cast<std::size_t>(limits.slots);
  // A row may be a piece and a tile of its own, and a probe for two reasons.
  const std::size_t step =
      rows * (3 * sizeof(std::int32_t) + sizeof(KvPiece) + sizeof(QueryTile) + 2 * sizeof(ProbeTile)) +
      slots * 6 * sizeof(std::int32_t);
  // Where rows look, and the positions that they have then.
  const std::size_t words = static_cast<std::size_t>(limits.slotPages) / kWordPages + 1;
  const std::size_t layer =
      rows * sizeof(QueryTile) + slots * (sizeof(std::int32_t) + sizeof(SeenRow) + words * sizeof(SeenWord));
  // Rows of sequences in partitions, and the turns of their queries.
  const std::size_t partitions = limits.selection ? rows * sizeof(PartitionedRow) : 0;
  const std::size_t turns = static_cast<std::size_t>(PartitionPlan::mostTurns(limits)) * sizeof(std::int32_t);
  return step + static_cast<std::size_t>(limits.layers) * layer + partitions + turns +
         TableUpload::blockBytes(limits.slots) + 4096;
}

}  // namespace

StepLayout::StepLayout(const LaneLimits& limits, SlotTables& tables, std::size_t partsBytes, std::size_t sums)
    : layers_(limits.layers),
      block_(blockBytes(limits), "the plan of a step"),
      tables_(tables),
      entries_(limits.attention, partsBytes),
      probes_(limits.attention, partsBytes, sums),
      partitions_(limits) {}

StepArrays StepLayout::layOut(const StepPlan& plan, Stream stream) {
  StepArrays arrays;
  arrays.rows = static_cast<std::int64_t>(plan.tokens.size());
  arrays.entries = plan.entries.size();
  block_.clear();
  tables_.collect(plan.tables, block_, stream);
  layOutEntries(plan, arrays);
  layOutProbes(plan, arrays);
  layOutSight(plan, arrays);
  layOutPartitions(plan, arrays);
  layOutCarried(plan, arrays);
  tables_.send(plan.tables, block_, stream);
  return arrays;
}

void StepLayout::layOutEntries(const StepPlan& plan, StepArrays& arrays) {
  entries_.layOut(plan);
  arrays.tokens = block_.add(plan.tokens);
  arrays.positions = block_.add(entries_.positions());
  arrays.slots = block_.add(plan.tables, &KvTable::slot);
  arrays.pieces = block_.add(entries_.pieces());
  arrays.tiles = block_.add(entries_.tiles());
  arrays.contexts = block_.add(entries_.singles(), &Single::context);
  arrays.singleSlots = block_.add(entries_.singles(), &Single::slot);
  arrays.singleRows = block_.add(entries_.singles(), &Single::row);
}

void StepLayout::layOutProbes(const StepPlan& plan, StepArrays& arrays) {
  probes_.layOut(plan.probes, plan.entries);
  arrays.probes = block_.add(probes_.tiles());
}

void StepLayout::layOutSight(const StepPlan& plan, StepArrays& arrays) {
  ofSingles_.clear();
  for (const Single& single : entries_.singles()) ofSingles_.push_back({single.entry, single.context});
  sight_.layOut(plan, layers_, entries_.tiles(), ofSingles_);
  if (sight_.empty()) return;
  arrays.seenRows = block_.add(sight_.rows());
  arrays.seenWords = block_.add(sight_.words());
  arrays.closedTiles = block_.add(sight_.closedTiles());
  arrays.closedContexts = block_.add(sight_.closedContexts());
  const auto rowOf = [&](const EntryRows& entry) { return static_cast<int>(&entry - plan.entries.data()); };
  arrays.rowsOfEntries = block_.add(plan.entries, rowOf);
  arrays.rowsOfSingles = block_.add(entries_.singles(), &Single::entry);
}

void StepLayout::layOutPartitions(const StepPlan& plan, StepArrays& arrays) {
  partitions_.layOut(plan);
  arrays.partitionedRows = block_.add(partitions_.rows());
  arrays.turns = block_.add(partitions_.turns());
}

// Behind what recorded kernels read, which lies in its place with and without it.
void StepLayout::layOutCarried(const StepPlan& plan, StepArrays& arrays) {
  if (std::ranges::none_of(plan.carried, [](std::int32_t row) { return row >= 0; })) return;
  check(plan.carried.size() == plan.tokens.size(), "a step says of each row, or of none, what it carries");
  arrays.carried = block_.add(plan.carried);
}

}  // namespace tandem::cuda
