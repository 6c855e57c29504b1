// A block is a KV head, some of the newest mid pages, of which a warp takes one after the other, and a row
// or, of sequences with several, as many as have heads for four tiles. A page's keys are brought and made
// numbers once for neighbours of the same sequence; what is left to do for each of them is to turn their
// queries by the page's turn, and to multiply.
//
// Bytes, for a KV head of the rows that are scored together, of which later rows of a prompt find most in L2:
// half * headDim a token of codes and 8 * headDim of scales and turn a page; 4 written a row and page. Of far
// pages the codes and scales come over the bus. FLOP: 2 * headDim a token and head, in tiles of eight heads.

#include "cuda/score-pages.h"

#include "cuda/attention-order.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"
#include "cuda/page-scores.h"

namespace tandem::cuda {
namespace {

using namespace promises;

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kTilesTogether = 4;
static_assert(rowsScoredTogether(1) == kTilesTogether * kTileColumns);

// Of a block. 512 of one row with 8 KV heads are 256 blocks; of several rows a block's pages make up for
// laying out so many queries.
template <int kTiles>
constexpr int kPages = kTiles == kTilesTogether ? 32 : 16;

// Blocks that an SM shall have registers for.
template <int kTiles>
constexpr int kBlocks = kTiles == 1 ? 8 : (kTiles == 2 ? 5 : 4);

template <int kTiles>
constexpr Rows kRows = kTiles == kTilesTogether ? Rows::several : Rows::one;

template <int kHeadDim, int kTiles>
struct Shared {
  ScoringWarp<kHeadDim, kTiles, kRows<kTiles>> warps[kWarps];
  QueryTile<kHeadDim, kRows<kTiles>> queries[kTiles];
};

__device__ bool areTurnedAlike(const PartitionedRow& a, const PartitionedRow& b) {
  return a.sequence == b.sequence && a.midEnd == b.midEnd;
}

// `together` rows, if there are so many: with more than one kTiles are kTilesTogether.
template <int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kThreads, kBlocks<kTiles>)
    scoreNewest(const SelectPages problem, int together) {
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kTiles>*>(keptByWarp(dynamicShared()));
  const int kvHead = static_cast<int>(blockIdx.y);
  const int warp = keptByWarp(static_cast<int>(threadIdx.x) / 32);
  const int group = problem.heads / problem.tables.format.kvHeads;
  const int end = min(problem.rowCount, (static_cast<int>(blockIdx.z) + 1) * together);
  ColumnRows own{problem.rows, 0, group};
#pragma unroll 1
  for (int leader = static_cast<int>(blockIdx.z) * together; leader < end; leader += own.count) {
    own.rows = problem.rows + leader;
    own.count = 1;
    while (leader + own.count < end && areTurnedAlike(own.rows[own.count], own.rows[0])) ++own.count;
    const PartitionedRow row = own.rows[0];
    const int mid = row.midPages();
    const int first = problem.olderOf(mid) + static_cast<int>(blockIdx.x) * kPages<kTiles>;
    if (mid <= problem.topPages || first >= mid) continue;

    __syncthreads();  // the rows before have been scored
    loadQueries<kHeadDim, kThreads>(shared.queries, problem, own, kvHead);
    __syncthreads();
    const auto score = [&](auto tiles) {
      scorePages<kHeadDim, tiles>(
          problem, own, kvHead, shared.queries, shared.warps[warp], first + warp,
          min(mid, first + kPages<kTiles>), kWarps, [&](int i) { return row.sinkPages + i; },
          [&](int i, int number, std::uint32_t order) {
            ordersOf(problem, static_cast<unsigned>(leader + number), kvHead)[i] = order;
          });
    };
    if constexpr (kTiles < kTilesTogether) {
      score(std::integral_constant<int, kTiles>());
    } else if (own.tiles() == 1) {
      score(std::integral_constant<int, 1>());
    } else if (own.tiles() == 2) {
      score(std::integral_constant<int, 2>());
    } else {
      score(std::integral_constant<int, kTiles>());
    }
  }
}

template <int kHeadDim, int kTiles>
void launchScores(const SelectPages& problem, int together, Stream stream) {
  const auto partsOf = [](int all, int part) { return static_cast<unsigned>((all + part - 1) / part); };
  const dim3 grid(partsOf(problem.mostMid - problem.olderOf(problem.mostMid), kPages<kTiles>),
                  static_cast<unsigned>(problem.tables.format.kvHeads), partsOf(problem.rowCount, together));
  launchShared("selectPages' scores", scoreNewest<kHeadDim, kTiles>, grid, kThreads,
               sizeof(Shared<kHeadDim, kTiles>), stream, problem, together);
}

}  // namespace

void scoreNewestPages(const SelectPages& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  const int group = problem.heads / format.kvHeads;
  if (problem.scoredPages == 0 || problem.mostMid == 0 || problem.rowCount == 0) return;
  withHeadDim(format.headDim, "selectPages", [&](auto headDim) {
    if (problem.ofSeveral) {
      launchScores<headDim, kTilesTogether>(problem, rowsScoredTogether(group), stream);
    } else if (group > kTileColumns) {
      launchScores<headDim, 2>(problem, 1, stream);
    } else {
      launchScores<headDim, 1>(problem, 1, stream);
    }
  });
}

}  // namespace tandem::cuda
