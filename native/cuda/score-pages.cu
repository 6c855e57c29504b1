// A block is a KV head, 32 of the newest mid pages, of which a warp takes one after the other, and a row or
// as many neighbours of the same sequence as have heads for four tiles of columns: a page's keys are brought
// and made numbers once for all of them, and turning their queries by the page's turn is then half of the
// work.
//
// Bytes, for each block's rows and KV head, of which later rows of a prompt find most in L2: half * headDim a
// token of codes and 8 * headDim of scales and turn a page; 4 written a row and page. Of far pages the codes
// and scales come over the bus. FLOP: 2 * headDim a token and head, in tiles of eight heads.

#include "cuda/score-pages.h"

#include "cuda/attention-order.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"
#include "cuda/page-scores.h"

namespace tandem::cuda {
namespace {

using namespace promises;

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kPages = 32;  // of a block: 512 of a row and 8 KV heads are 128 blocks
constexpr int kTiles = 4;
constexpr int kBlocks = 2;  // that an SM shall have registers for
static_assert(rowsScoredTogether(1) <= kTiles * kTileColumns && kGroupMost <= kTiles * kTileColumns);

template <int kHeadDim>
struct Shared {
  ScoringWarp<kHeadDim, kTiles> warps[kWarps];
  QueryTile<kHeadDim> queries[kTiles];
};

__device__ bool seeTheSame(const PartitionedRow& a, const PartitionedRow& b) {
  return a.sequence == b.sequence && a.midEnd == b.midEnd;
}

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, kBlocks) scoreNewest(const SelectPages problem) {
  auto& shared = *reinterpret_cast<Shared<kHeadDim>*>(dynamicShared());
  const int kvHead = static_cast<int>(blockIdx.y), leader = static_cast<int>(blockIdx.z);
  const PartitionedRow* rows = problem.rows + leader;
  const int mid = rows[0].midPages();
  if (mid <= problem.topPages) return;
  const int first = problem.olderOf(mid) + static_cast<int>(blockIdx.x) * kPages;
  if (first >= mid) return;

  // Rows come in groups of which each begins at a multiple. The first of a sequence in it speaks for those
  // that follow.
  const int group = problem.heads / problem.tables.format.kvHeads, together = rowsScoredTogether(group);
  if (leader % together != 0 && seeTheSame(rows[-1], rows[0])) return;
  ColumnRows own{rows, 1, group};
  const int most = min(together - leader % together, problem.rowCount - leader);
  while (own.count < most && seeTheSame(rows[own.count], rows[0])) ++own.count;
  loadQueries<kHeadDim, kThreads>(shared.queries, problem, own, kvHead);
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const auto score = [&](auto tiles) {
    scorePages<kHeadDim, tiles>(
        problem, own, kvHead, shared.queries, shared.warps[warp], first + warp, min(mid, first + kPages),
        kWarps, [&](int i) { return rows[0].sinkPages + i; },
        [&](int i, int row, std::uint32_t order) {
          ordersOf(problem, blockIdx.z + static_cast<unsigned>(row), kvHead)[i] = order;
        });
  };
  if (own.tiles() == 1) {
    score(std::integral_constant<int, 1>());
  } else if (own.tiles() == 2) {
    score(std::integral_constant<int, 2>());
  } else {
    score(std::integral_constant<int, kTiles>());
  }
}

}  // namespace

void scoreNewestPages(const SelectPages& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  const int mostNewest = problem.mostMid - problem.olderOf(problem.mostMid);
  if (mostNewest == 0 || problem.rowCount == 0) return;
  const dim3 grid(static_cast<unsigned>((mostNewest + kPages - 1) / kPages),
                  static_cast<unsigned>(format.kvHeads), static_cast<unsigned>(problem.rowCount));
  withHeadDim(format.headDim, "selectPages", [&](auto headDim) {
    launchShared("selectPages' scores", scoreNewest<headDim>, grid, kThreads, sizeof(Shared<headDim>), stream,
                 problem);
  });
}

}  // namespace tandem::cuda
