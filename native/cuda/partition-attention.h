#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "cuda/page-tables.h"
#include "cuda/partitioned-row.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// What a launch for rows of sequences in partitions has room for.
struct PartitionSizes {
  int rows = 0;
  int mostMid = 0;   // mid pages of a row
  int mostRuns = 0;  // that a row takes; see partition-runs.h

  auto operator<=>(const PartitionSizes&) const = default;
};

// See Ops::attendPartitions in core/ops.h, for rows of prompts and of decode alike: a row has the same bits
// alone and beside any others. All on the device but the numbers.
struct PartitionAttention {
  const bf16* qkv = nullptr;  // [rows, (heads + 2 * kvHeads) * headDim], q as `appendKv` left it
  PageTables tables;
  const PartitionedRow* rows = nullptr;  // [sizes.rows]
  PartitionSizes sizes;
  bool ofSeveral = false;  // rows a sequence, most of them beside each other: for speed alone
  int heads = 0;           // a multiple of kvHeads, 16 times at most
  int topPages = 0;
  int scoredPages = 0;           // the newest mid pages, which are all looked at key by key
  const float* turns = nullptr;  // [turns, 2, headDim / 2]; see page-turns.h
  std::byte* scratch = nullptr;  // partitionScratch(...) bytes
  bf16* out = nullptr;           // [rows, heads * headDim]
};

std::size_t partitionScratch(const PartitionSizes& sizes, int heads, int kvHeads, int headDim, int topPages,
                             int scoredPages);

void attendPartitions(const PartitionAttention& problem, Stream stream);

}  // namespace tandem::cuda
