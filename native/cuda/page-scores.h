#pragma once

// What the keys of packed pages score with the query heads of rows that see the same pages: a page a warp, on
// tensor cores, with heads as columns. What a column scores does not depend on what the others are.

#include <cstddef>
#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"
#include "cuda/page-tiles.h"
#include "cuda/page-turns.h"

namespace tandem::cuda::promises {

// Query heads as operands of tensor cores.
inline constexpr int kTileColumns = 8;
template <int kHeadDim>
struct QueryTile {
  uint2 parts[kHeadDim / 16][32];  // by depth and lane
};

// Rows whose heads of a KV head are columns of the same tiles, one row's after the other's.
struct ColumnRows {
  const PartitionedRow* rows;  // neighbours that are turned alike
  int count;
  int group;  // heads of a KV head

  __device__ int columns() const { return count * group; }
  __device__ int tiles() const { return (columns() + kTileColumns - 1) / kTileColumns; }
};

// Lays out the queries of `own`, as one of kThreads.
template <int kHeadDim, int kThreads>
__device__ void loadQueries(QueryTile<kHeadDim>* tiles, const SelectPages& problem, const ColumnRows& own,
                            int kvHead) {
  constexpr int kDepths = kHeadDim / 16;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  for (int i = static_cast<int>(threadIdx.x) / 32; i < own.tiles() * kDepths; i += kThreads / 32) {
    const int tile = i / kDepths, depth = i % kDepths, column = kTileColumns * tile + g;
    uint2 part = make_uint2(0, 0);
    if (column < own.columns()) {
      const bf16* query = queriesOf(problem, own.rows[column / own.group], kvHead) +
                          std::int64_t{column % own.group} * kHeadDim;
      part = *reinterpret_cast<const uint2*>(query + 16 * depth + 4 * t);
    }
    tiles[tile].parts[depth][lane] = part;
  }
}

// Calls body(tile) with the PageTile of the keys of a packed page.
template <int kHeadDim, class Body>
__device__ void withPackedKeys(std::uint64_t entry, const Body& body) {
  if (entry == 0) return;
  if (PageTables::classOf(entry) == PrecisionClass::int4) {
    body(PageTile<kHeadDim, true, PrecisionClass::int4>());
  } else {
    body(PageTile<kHeadDim, true, PrecisionClass::int2>());
  }
}

// Of a warp, in shared memory: a page that is scored and the next one, which is brought meanwhile.
template <int kHeadDim, int kTiles>
struct ScoringWarp {
  struct alignas(16) Slot {
    // Pages of int4 are the largest that are packed.
    std::byte keys[PageTile<kHeadDim, true, PrecisionClass::int4>::kSlotBytes];
    float turn[kHeadDim];
  };
  Slot slots[2];
  float highest[kTileColumns * kTiles];  // of each column
};

// Calls take(i, row, order) for i = first, first + step, ... below `end`: what the page pageAt(i) promises
// row number `row` of `own`, in a lane for each. A warp together, kTiles of whose tiles have columns.
template <int kHeadDim, int kTiles, int kRoom, class PageAt, class Take>
__device__ void scorePages(const SelectPages& problem, const ColumnRows& own, int kvHead,
                           const QueryTile<kHeadDim>* queries, ScoringWarp<kHeadDim, kRoom>& warp, int first,
                           int end, int step, const PageAt& pageAt, const Take& take) {
  static_assert(kTiles <= kRoom);
  constexpr int kHalfDepths = kHeadDim / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const PageFormat outlines{PrecisionClass::far, problem.tables.format.kvHeads, kHeadDim};
  const PartitionedRow row = own.rows[0];
  // Begins to bring a page's keys, those of a far one out of host memory, and its turn.
  const auto bring = [&](int i, auto& slot) {
    std::uint64_t entry = 0;
    if (i < end) {
      const int page = pageAt(i);
      entry = PageTables::detailOf(problem.tables.entry(row.sequence, page), outlines);
      withPackedKeys<kHeadDim>(entry, [&](auto keys) {
        keys.template copy<32>(slot.keys, PageTables::pageOf(entry) + kvHead * keys.kHeadBytes,
                               static_cast<unsigned>(lane));
        if (4 * lane < kHeadDim) copyAsync(slot.turn + 4 * lane, turnOf(problem, row, page) + 4 * lane);
      });
    }
    endCopyGroup();
    return entry;
  };

  std::uint64_t next = bring(first, warp.slots[0]);
  int used = 0;
#pragma unroll 1
  for (int i = first; i < end; i += step) {
    const std::uint64_t entry = next;
    const auto& slot = warp.slots[used];
    used = 1 - used;
    next = bring(i + step, warp.slots[used]);
    float p[kTiles][2][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int k = 0; k < 4; ++k) p[tile][0][k] = p[tile][1][k] = 0;
    }
    waitForCopies<1>();
    __syncwarp();
    withPackedKeys<kHeadDim>(entry, [&](auto keys) {
    // Unrolled it takes half as many registers again.
#pragma unroll 1
      for (int depth = 0; depth < kHalfDepths; ++depth) {
        QueryPart turned[kTiles];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const QueryPart part{queries[tile].parts[depth][lane],
                               queries[tile].parts[kHalfDepths + depth][lane]};
          turned[tile] = part.turned(slot.turn, kHeadDim / 2, 16 * depth + 4 * t);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          std::uint32_t low[4], high[4];
          keys.loadKeys(low, high, slot.keys, depth + half * kHalfDepths, g, t);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const std::uint32_t tokens[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) {
              const uint2 q = half == 0 ? turned[tile].first : turned[tile].second;
              multiplyTiles(p[tile][m], tokens, q.x, q.y);
            }
          }
        }
      }
    });
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float highest =
            maxOrNan(maxOrNan(p[tile][0][c], p[tile][0][c + 2]), maxOrNan(p[tile][1][c], p[tile][1][c + 2]));
#pragma unroll
        for (int lanes = 4; lanes < 32; lanes *= 2) {
          highest = maxOrNan(highest, __shfl_xor_sync(kWholeWarp, highest, lanes));
        }
        if (g == 0) warp.highest[kTileColumns * tile + 2 * t + c] = highest;
      }
    }
    __syncwarp();
    if (lane < own.count) {
      float highest = warp.highest[lane * own.group];
      for (int head = 1; head < own.group; ++head) {
        highest = maxOrNan(highest, warp.highest[lane * own.group + head]);
      }
      take(i, lane, entry == 0 ? 0 : promiseOrder(highest));
    }
    __syncwarp();
  }
  waitForCopies<0>();
}

}  // namespace tandem::cuda::promises
