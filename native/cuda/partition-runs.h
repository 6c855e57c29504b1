#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/page-tables.h"
#include "cuda/partitioned-row.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Pages of a run of attention, of kRunTokens (attention-order.h).
inline constexpr int kRunPages = 8;

// Lays out what a row sees for `decodeAttention`, which attends to each KV head of a row as to a sequence of
// one KV head: its sink pages, the chosen mid pages, and the recent ones, in ascending order, in a table of
// their own. Pages that the query is turned back by as much as their neighbours share a run of attention, of
// which `decodeAttention` takes each with a query of its own; what is left of a run has no page. All on the
// device but the numbers.
struct PartitionRuns {
  const bf16* qkv = nullptr;  // [rows, (heads + 2 * kvHeads) * headDim], q as `appendKv` left it
  PageTables tables;
  const PartitionedRow* rows = nullptr;  // [rowCount]
  int rowCount = 0;
  int heads = 0;
  int topPages = 0;
  const std::int32_t* pages = nullptr;  // [rowCount, kvHeads, pageStride]: as `selectPages` left them
  int pageStride = 0;
  const float* turns = nullptr;  // [turns, 2, headDim / 2]; see page-turns.h
  int mostRuns = 0;              // of a row; runsOf(...) of each at most
  // Of each row and KV head:
  std::uint64_t* entries = nullptr;  // [rowCount * kvHeads, mostRuns * kRunPages]: of its head's block alone
  std::int32_t* slots = nullptr;     // [rowCount * kvHeads]: the row of `entries`
  std::int32_t* outRows = nullptr;   // [rowCount * kvHeads]: of [rows * kvHeads, heads / kvHeads * headDim]
  std::int32_t* contexts =
      nullptr;              // [rowCount * kvHeads]: tokens up to the row's own, those of empty places too
  bf16* queries = nullptr;  // [rowCount * kvHeads, mostRuns, heads / kvHeads, headDim]
};

// Runs that a row takes at most.
constexpr int runsOf(const PartitionedRow& row, int topPages) {
  const auto runsOfPages = [](int pages) { return (pages + kRunPages - 1) / kRunPages; };
  const int mid = row.midPages() < topPages ? row.midPages() : topPages;
  return runsOfPages(row.sinkPages) + mid + runsOfPages(row.recentPages());
}

void partitionRuns(const PartitionRuns& problem, Stream stream);

}  // namespace tandem::cuda
