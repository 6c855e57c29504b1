#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "core/ops.h"
#include "cuda/page-tables.h"
#include "cuda/partitioned-row.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Which mid pages each row sees, for each KV head: see Ops::attendPartitions in core/ops.h. Pages are chosen
// in the order that the CPU has, of what promises as much the earlier one; only rounding may tell the two
// apart. All on the device but the numbers.
struct SelectPages {
  const bf16* qkv = nullptr;  // [rows, (heads + 2 * kvHeads) * headDim], q as `appendKv` left it
  PageTables tables;
  const PartitionedRow* rows = nullptr;  // [rowCount]
  int rowCount = 0;
  bool ofSeveral = false;  // rows a sequence, most of them beside each other: for speed alone
  int heads = 0;           // a multiple of kvHeads, 16 times at most
  int topPages = 0;
  int scoredPages = 0;              // the newest mid pages of a row, which are all looked at key by key
  int mostMid = 0;                  // mid pages of a row at most
  const float* turns = nullptr;     // [mostMid or more, 2, headDim / 2]; see page-turns.h
  std::uint32_t* orders = nullptr;  // [rowCount, kvHeads, mostMid]: what pages promise; scratch
  // [rowCount, kvHeads, pageStride()]: of a row with more than `topPages` mid pages the chosen ones,
  // `topPages` places in the table, ascending; scratch behind them, and of the other rows, who see all.
  std::int32_t* pages = nullptr;

  // Of a row's mid pages those older than the newest ones.
  constexpr int olderOf(int mid) const { return std::max(0, mid - scoredPages); }
  // Older pages that are looked at key by key at most.
  constexpr int shortlist() const { return topPages * static_cast<int>(kShortlistFactor); }
  constexpr int pageStride() const {
    return std::min(mostMid, std::max(topPages, std::min(olderOf(mostMid), shortlist())));
  }
};

void selectPages(const SelectPages& problem, Stream stream);

}  // namespace tandem::cuda
