#pragma once

#include <cstdint>

#include "kv/page-format.h"

namespace tandem::cuda {

// A token of a sequence in partitions (PagePartitions in core/ops.h). The pages [0, sinkPages) of its table
// are sink, [sinkPages, midEnd) mid, and recent from there to its own.
struct PartitionedRow {
  std::int32_t row;       // of the activations
  std::int32_t sequence;  // of the tables
  std::int32_t position;  // of the token in the table
  std::int32_t sinkPages;
  std::int32_t midEnd;
  std::int32_t sinkTurn;  // with which its query meets the sink; see page-turns.h

  constexpr std::int32_t midPages() const { return midEnd - sinkPages; }
  constexpr std::int32_t recentPages() const { return position / kPageTokens + 1 - midEnd; }
};

}  // namespace tandem::cuda
