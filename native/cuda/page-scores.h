#pragma once

// What the keys of packed pages score with the query heads of rows that see the same pages: a page a warp, on
// tensor cores, with heads as columns. What a column scores does not depend on what the others are.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"
#include "cuda/page-tiles.h"
#include "cuda/page-turns.h"
#include "cuda/warp-halves.h"

namespace tandem::cuda::promises {

// Whether the columns are the heads of one row, or of several.
enum class Rows { one, several };

// Query heads, laid out as operands of tensor cores. Those of several rows as float32, in which they are
// turned, since they outweigh the keys; for one row there is no room beside the pages of as many warps.
inline constexpr int kTileColumns = 8;
template <int kHeadDim, Rows kRows>
struct QueryTile {
  using Four = std::conditional_t<kRows == Rows::one, uint2, float4>;
  Four parts[kHeadDim / 16][32];  // by depth and lane

  __device__ WideQueryPart part(int depth, int lane) const {
    const Four first = parts[depth][lane], second = parts[depth + kHeadDim / 32][lane];
    if constexpr (kRows == Rows::one)
      return WideQueryPart(QueryPart{first, second});
    else
      return WideQueryPart(first, second);
  }
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
template <int kHeadDim, int kThreads, Rows kRows>
__device__ void loadQueries(QueryTile<kHeadDim, kRows>* tiles, const SelectPages& problem,
                            const ColumnRows& own, int kvHead) {
  constexpr int kDepths = kHeadDim / 16, kWarps = kThreads / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  for (int tile = 0; tile < own.tiles(); ++tile) {
    const int column = kTileColumns * tile + g;
    const int row = kRows == Rows::one ? 0 : column / own.group;
    const bf16* query = column < own.columns()
                            ? queriesOf(problem, own.rows[row], kvHead) +
                                  static_cast<std::int64_t>(column - row * own.group) * kHeadDim
                            : nullptr;
    for (int depth = warp; depth < kDepths; depth += kWarps) {
      uint2 four = make_uint2(0, 0);
      if (query != nullptr) four = *reinterpret_cast<const uint2*>(query + 16 * depth + 4 * t);
      if constexpr (kRows == Rows::one) {
        tiles[tile].parts[depth][lane] = four;
      } else {
        tiles[tile].parts[depth][lane] = WideQueryPart::widened(four);
      }
    }
  }
}

// Calls body(tile) with the PageTile of the keys of a packed page; not at all where there is none.
template <int kHeadDim, class Body>
__device__ void withPackedKeys(PrecisionClass precision, const Body& body) {
  if (precision == PrecisionClass::none) return;
  if (precision == PrecisionClass::int4) {
    body(PageTile<kHeadDim, true, PrecisionClass::int4>());
  } else {
    body(PageTile<kHeadDim, true, PrecisionClass::int2>());
  }
}

// Of a warp, in shared memory: a page that is scored and the next one, which is brought meanwhile, and where
// the ones behind it lie.
template <int kHeadDim, int kTiles, Rows kRows>
struct ScoringWarp {
  struct alignas(16) Slot {
    // Pages of int4 are the largest that are packed.
    std::byte keys[PageTile<kHeadDim, true, PrecisionClass::int4>::kSlotBytes];
    float turn[kHeadDim];
  };
  struct alignas(16) Place {
    std::uint64_t entry;  // 0 where there is none
    const float* turn;
  };
  // Looked up together, a lane each: every step of the way takes some hundred clocks.
  static constexpr int kPlaces = 16;

  Slot slots[2];
  Place places[kPlaces];
  float highest[kRows == Rows::one ? 1 : kTileColumns * kTiles];  // of each column, of several rows
};

// Of a column of the lane's what its tokens score at most, as far as the lane has them.
__device__ inline float highestOf(const float (&scores)[2][4], int column) {
  return maxOrNan(maxOrNan(scores[0][column], scores[0][column + 2]),
                  maxOrNan(scores[1][column], scores[1][column + 2]));
}

// The same of all lanes: a lane ends with one column's, or several with the same.
template <int kTiles>
__device__ float highestOfColumn(const float (&scores)[kTiles][2][4]) {
  const auto higher = [](float a, float b) { return maxOrNan(a, b); };
  float highest[2 * kTiles];
#pragma unroll
  for (int i = 0; i < 2 * kTiles; ++i) highest[i] = highestOf(scores[i / 2], i % 2);
  int bit = 16;
  if constexpr (kTiles >= 4) divide<4>(highest, bit, higher), bit /= 2;
  if constexpr (kTiles >= 2) divide<2>(highest, bit, higher), bit /= 2;
  divide<1>(highest, bit, higher);
  for (bit /= 2; bit >= 4; bit /= 2) {
    highest[0] = higher(highest[0], __shfl_xor_sync(kWholeWarp, highest[0], bit));
  }
  return highest[0];
}
// Which one it is.
template <int kTiles>
__device__ int columnOf(unsigned g, unsigned t) {
  const unsigned own = g / (4 / kTiles);
  return static_cast<int>(kTileColumns * (own / 2) + 2 * t + own % 2);
}

// Calls take(i, row, order) for i = first, first + step, ... below `end`: what the page pageAt(i) promises
// row number `row` of `own`, in a lane for each. A warp together, kTiles of whose tiles have columns.
template <int kHeadDim, int kTiles, int kRoom, Rows kRows, class PageAt, class Take>
__device__ void scorePages(const SelectPages& problem, const ColumnRows& own, int kvHead,
                           const QueryTile<kHeadDim, kRows>* queries,
                           ScoringWarp<kHeadDim, kRoom, kRows>& warp, int first, int end, int step,
                           const PageAt& pageAt, const Take& take) {
  static_assert(kTiles <= kRoom);
  constexpr int kHalfDepths = kHeadDim / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  using Warp = ScoringWarp<kHeadDim, kRoom, kRows>;
  const PageFormat outlines{PrecisionClass::far, problem.tables.format.kvHeads, kHeadDim};
  int looked = Warp::kPlaces;  // at so many of the places that are known
  // Begins to bring a page's keys, those of a far one out of host memory, and its turn.
  const auto bring = [&](int i, auto& slot) {
    if (looked == Warp::kPlaces) {
      const int placed = i + lane * step;
      if (lane < Warp::kPlaces && placed < end) {
        const PartitionedRow& row = own.rows[0];
        const int page = pageAt(placed);
        const std::uint64_t entry = problem.tables.entry(row.sequence, page);
        warp.places[lane] = {PageTables::detailOf(entry, outlines), turnOf<kHeadDim>(problem, row, page)};
      } else if (lane < Warp::kPlaces) {
        warp.places[lane] = {0, nullptr};
      }
      __syncwarp();
      looked = 0;
    }
    const auto [entry, turn] = warp.places[looked++];
    const PrecisionClass precision = entry == 0 ? PrecisionClass::none : PageTables::classOf(entry);
    withPackedKeys<kHeadDim>(precision, [&, entry = entry, turn = turn](auto keys) {
      keys.template copy<32>(slot.keys, PageTables::pageOf(entry) + kvHead * keys.kHeadBytes,
                             static_cast<unsigned>(lane));
      if (4 * lane < kHeadDim) {
        copyAsync(slot.turn + 4 * lane, turn + 4 * lane);
      }
    });
    endCopyGroup();
    return precision;
  };

  PrecisionClass next = bring(first, warp.slots[0]);
  int used = 0;
#pragma unroll 1
  for (int i = first; i < end; i += step) {
    const PrecisionClass precision = next;
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
    withPackedKeys<kHeadDim>(precision, [&](auto keys) {
    // Unrolled it takes half as many registers again.
#pragma unroll 1
      for (int depth = 0; depth < kHalfDepths; ++depth) {
        QueryPart turned[kTiles];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          turned[tile] = queries[tile].part(depth, lane).turned(slot.turn, kHeadDim / 2, 16 * depth + 4 * t);
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
    const auto orderOfScore = [&](float highest) {
      return precision == PrecisionClass::none ? 0 : promiseOrder(highest);
    };
    if constexpr (kRows == Rows::one) {
      float highest = -INFINITY;
#pragma unroll
      for (int i = 0; i < 2 * kTiles; ++i) {
        if (kTileColumns * (i / 2) + 2 * t + i % 2 < own.group) {
          highest = maxOrNan(highest, highestOf(p[i / 2], i % 2));
        }
      }
      // The order of what is highest is the highest order.
      const std::uint32_t order = __reduce_max_sync(kWholeWarp, orderOfScore(highest));
      if (lane == 0) take(i, 0, order);
    } else {
      warp.highest[columnOf<kTiles>(static_cast<unsigned>(g), static_cast<unsigned>(t))] = highestOfColumn(p);
      __syncwarp();
      if (lane < own.count) {
        float highest = warp.highest[lane * own.group];
#pragma unroll 1
        for (int head = 1; head < own.group; ++head) {
          highest = maxOrNan(highest, warp.highest[lane * own.group + head]);
        }
        take(i, lane, orderOfScore(highest));
      }
    }
    __syncwarp();  // before the slot is written again
  }
  waitForCopies<0>();
}

}  // namespace tandem::cuda::promises
