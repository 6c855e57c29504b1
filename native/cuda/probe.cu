// Two kernels. In the first a block is a tile of rows, a KV head and 32 pages: the query heads of the group
// of each row are the columns of its tensor-core tiles, and each of its four warps scores eight pages, of
// which it brings the next while it has one. What it leaves is each page's softmax for itself: its highest
// score and its sum of probabilities. In the second a block is a tile and a KV head: it finds what each
// column's pages come to together, and adds their parts in whole units, so that the order of blocks is of no
// matter.
//
// Bytes: the keys of each page once a tile and KV head, mostly from L2 (8 KB of bf16 for 128 channels and 32
// columns), and 8 for each page and column, written and read twice. FLOP: 2 * headDim a token and column, in
// tiles of 8 or 32 columns.

#include "cuda/probe.h"

#include <algorithm>
#include <cmath>

#include "core/ops.h"
#include "cuda/attention-warp.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlockPages = 32;  // an entry of the table for each lane
constexpr int kWarpPages = kBlockPages / kWarps;
constexpr int kStages = 2;

constexpr int kColumnsMost = 32;

constexpr int kAddThreads = 256;

struct Work {
  Probe problem;
  int group;   // heads of a KV head
  int stride;  // pages of a column in `parts`
  float scale;
};

// What the rows of a tile see.
struct Seen {
  int begin, end;  // tokens
  __device__ int firstPage() const { return begin / kPageTokens; }
  __device__ int endPage() const { return (end + kPageTokens - 1) / kPageTokens; }
};

__device__ Seen seenFrom(int position, int window) {
  return {window > 0 ? max(0, position + 1 - window) : 0, position + 1};
}
__device__ Seen seenBy(const ProbeTile& tile, int window) {
  return {seenFrom(tile.position, window).begin, tile.position + tile.count};
}

// Of the columns of a tile and KV head, the highest score and the sum of each page. [columns, stride]
__device__ float2* partsOf(const Work& work, int columns, int tile, int kvHead) {
  const std::int64_t head = std::int64_t{tile} * work.problem.tables.format.kvHeads + kvHead;
  return reinterpret_cast<float2*>(work.problem.parts) + head * columns * work.stride;
}

template <int kHeadDim, int kTiles>
struct Shared {
  // Pages of bf16 are the largest.
  std::byte keys[kWarps][kStages][PageTile<kHeadDim, true, PrecisionClass::bf16>::kSlotBytes];
  uint2 queries[kHeadDim / 16][kTiles][32];  // by depth, tile and lane
};

template <int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kThreads) weighPages(const Work work) {
  constexpr int kColumns = 8 * kTiles;
  const Probe& problem = work.problem;
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kTiles>*>(dynamicShared());
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int g = lane / 4, t = lane % 4;
  const int kvHead = static_cast<int>(blockIdx.y);
  const ProbeTile tile = problem.tiles[blockIdx.z];
  const Seen seen = seenBy(tile, problem.window);
  const int firstPage = static_cast<int>(blockIdx.x) * kBlockPages;
  if (firstPage >= seen.endPage() || firstPage + kBlockPages <= seen.firstPage()) return;

  const PageFormat& format = problem.tables.format;
  const int group = work.group, columns = tile.count * group;
  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  for (int depth = warp; depth < kHeadDim / 16; depth += kWarps) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int column = 8 * i + g;
      const bf16* query = problem.qkv + (tile.row + column / group) * cols +
                          static_cast<std::int64_t>(kvHead * group + column % group) * kHeadDim;
      shared.queries[depth][i][lane] =
          column < columns ? *reinterpret_cast<const uint2*>(query + 16 * depth + 4 * t) : make_uint2(0, 0);
    }
  }

  const int ownPage = firstPage + lane;
  const std::uint64_t ownEntry = ownPage >= seen.firstPage() && ownPage < seen.endPage()
                                     ? problem.tables.entry(tile.sequence, ownPage)
                                     : 0;
  const auto entryOf = [&](int i) { return __shfl_sync(kWholeWarp, ownEntry, kWarps * i + warp); };
  const auto bring = [&](int i) {
    const std::uint64_t entry = i < kWarpPages ? entryOf(i) : 0;
    if (entry != 0) {
      withTile<kHeadDim, true>(PageTables::classOf(entry), [&](auto keys) {
        keys.template copy<32>(shared.keys[warp][i % kStages],
                               PageTables::pageOf(entry) + kvHead * keys.kHeadBytes, lane);
      });
    }
    endCopyGroup();
  };
  bring(0);
  __syncthreads();

  float2* parts = partsOf(work, kColumns, static_cast<int>(blockIdx.z), kvHead);
#pragma unroll 1
  for (int i = 0; i < kWarpPages; ++i) {
    const int page = firstPage + kWarps * i + warp;
    if (page >= seen.endPage()) break;
    bring(i + 1);
    const std::uint64_t entry = entryOf(i);
    float p[kTiles][2][4];
#pragma unroll
    for (int tiles = 0; tiles < kTiles; ++tiles) {
#pragma unroll
      for (int k = 0; k < 4; ++k) p[tiles][0][k] = p[tiles][1][k] = 0;
    }
    float2 scales[2] = {{work.scale, work.scale}, {work.scale, work.scale}};
    waitForCopies<1>();
    __syncwarp();
    if (entry != 0) {
      withTile<kHeadDim, true>(PageTables::classOf(entry), [&](auto keys) {
        const std::byte* slot = shared.keys[warp][i % kStages];
#pragma unroll
        for (int depth = 0; depth < kHeadDim / 16; ++depth) {
          std::uint32_t low[4], high[4];
          keys.loadKeys(low, high, slot, depth, g, t);
#pragma unroll
          for (int tiles = 0; tiles < kTiles; ++tiles) {
            const uint2 q = shared.queries[depth][tiles][lane];
#pragma unroll
            for (int m = 0; m < 2; ++m) {
              const std::uint32_t rows[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
              multiplyTiles(p[tiles][m], rows, q.x, q.y);
            }
          }
        }
        if constexpr (keys.kScaledTokens) {
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const float2 ofTokens = keys.loadScales(slot, m, g);
            scales[m] = {__fmul_rn(work.scale, ofTokens.x), __fmul_rn(work.scale, ofTokens.y)};
          }
        }
      });
    }
    __syncwarp();

    const int firstToken = page * kPageTokens + 4 * g;
#pragma unroll
    for (int tiles = 0; tiles < kTiles; ++tiles) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int column = 8 * tiles + 2 * t + k;
        const Seen ofColumn = seenFrom(tile.position + min(column, columns - 1) / group, problem.window);
        // Calls body(product, scale) of the tokens that the column sees.
        const auto each = [&](const auto& body) {
#pragma unroll
          for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int odd = 0; odd < 2; ++odd) {
              const int token = firstToken + 2 * m + odd;
              if (entry != 0 && token >= ofColumn.begin && token < ofColumn.end) {
                body(p[tiles][m][2 * odd + k], odd == 0 ? scales[m].x : scales[m].y);
              }
            }
          }
        };
        float highest = kNothingSeen, sum = 0;
        each([&](float product, float scale) { highest = fmaxf(highest, __fmul_rn(product, scale)); });
        highest = highestOfClasses(highest);
        each([&](float product, float scale) { sum += probability(product, scale, highest); });
        sum = overClasses(sum);
        if (g == 0 && column < columns) {
          parts[static_cast<std::int64_t>(column) * work.stride + page] = float2{highest, sum};
        }
      }
    }
  }
  waitForCopies<0>();
}

// A part of one head's attention in whole units. What is not a number counts as nothing.
__device__ std::uint32_t unitsOf(float part, float heads) {
  const float units = part * (static_cast<float>(kSaliencyUnits) / heads);
  return units > 0 ? static_cast<std::uint32_t>(roundf(units)) : 0;
}

__global__ void __launch_bounds__(kAddThreads) addParts(const Work work, int columnsMost) {
  const Probe& problem = work.problem;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int kvHead = static_cast<int>(blockIdx.x);
  const ProbeTile tile = problem.tiles[blockIdx.y];
  const Seen seen = seenBy(tile, problem.window);
  const int columns = tile.count * work.group;
  const float2* parts = partsOf(work, columnsMost, static_cast<int>(blockIdx.y), kvHead);
  const auto partOf = [&](int column, int page) {
    return parts[static_cast<std::int64_t>(column) * work.stride + page];
  };

  // Of each column: its highest score, and the inverse of its sum.
  __shared__ float2 totals[kColumnsMost];
  // Which pages a lane has does not depend on the tile, and pages that a column does not see add nothing: so
  // a column's total is the same in every tile.
  const int firstOfLane = seen.firstPage() / 32 * 32 + lane;
  for (int column = thread / 32; column < columns; column += kAddThreads / 32) {
    float highest = kNothingSeen, sum = 0;
    for (int page = firstOfLane; page < seen.endPage(); page += 32) {
      if (page >= seen.firstPage()) highest = fmaxf(highest, partOf(column, page).x);
    }
    highest = warpMax(highest);
    for (int page = firstOfLane; page < seen.endPage(); page += 32) {
      if (page < seen.firstPage()) continue;
      const float2 part = partOf(column, page);
      sum = __fmaf_rn(part.y, exp2Fast(part.x - highest), sum);
    }
    sum = warpSum(sum);
    if (lane == 0) totals[column] = float2{highest, 1 / sum};
  }
  __syncthreads();
  for (int page = seen.firstPage() + thread; page < seen.endPage(); page += kAddThreads) {
    std::uint32_t units = 0;
    for (int column = 0; column < columns; ++column) {
      const float2 part = partOf(column, page), total = totals[column];
      units += unitsOf(__fmul_rn(__fmul_rn(part.y, exp2Fast(part.x - total.x)), total.y),
                       static_cast<float>(problem.heads));
    }
    if (units > 0) atomicAdd(problem.sums + tile.sums + page, units);
  }
}

// Columns that a launch has room for: those of single rows, or all.
int columnsOf(int mostRows, int heads, int kvHeads) {
  return mostRows * (heads / kvHeads) <= 8 ? 8 : kColumnsMost;
}

int strideOf(int mostTokens) { return (mostTokens + kPageTokens - 1) / kPageTokens; }

template <int kHeadDim, int kTiles>
void weigh(const Work& work, Stream stream) {
  const dim3 grid(static_cast<unsigned>((work.stride + kBlockPages - 1) / kBlockPages),
                  static_cast<unsigned>(work.problem.tables.format.kvHeads),
                  static_cast<unsigned>(work.problem.tileCount));
  launchShared("probe", weighPages<kHeadDim, kTiles>, grid, kThreads, sizeof(Shared<kHeadDim, kTiles>),
               stream, work);
}

}  // namespace

int probeTileTokens(int heads, int kvHeads) { return std::max(1, kColumnsMost / (heads / kvHeads)); }

std::size_t probeScratch(int tiles, int mostRows, int mostTokens, int heads, int kvHeads) {
  return static_cast<std::size_t>(tiles) * kvHeads * columnsOf(mostRows, heads, kvHeads) *
         strideOf(mostTokens) * sizeof(float2);
}

void probe(const Probe& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "probe: heads must be a multiple of kvHeads");
  const int group = problem.heads / format.kvHeads;
  check(group <= kGroupMost, "probe supports up to 16 query heads for each KV head");
  check(problem.mostRows <= probeTileTokens(problem.heads, format.kvHeads),
        "probe: a tile has more rows than it may have");
  check(problem.tileCount <= 65535, "probe takes up to 65535 tiles");
  if (problem.tileCount == 0) return;
  const int columns = columnsOf(problem.mostRows, problem.heads, format.kvHeads);
  withHeadDim(format.headDim, "probe", [&](auto headDim) {
    const Work work{problem, group, strideOf(problem.mostTokens),
                    kLog2E / std::sqrt(static_cast<float>(headDim()))};
    columns == 8 ? weigh<headDim, 1>(work, stream) : weigh<headDim, kColumnsMost / 8>(work, stream);
    const dim3 grid(static_cast<unsigned>(format.kvHeads), static_cast<unsigned>(problem.tileCount));
    launch("probe's sums", addParts, grid, kAddThreads, stream, work, columns);
  });
}

}  // namespace tandem::cuda
