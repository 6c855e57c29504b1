// A block is a row and a KV head. Of the older mid pages it finds those that promise most, by the bounds that
// bound-pages.cu leaves where there are many, and scores these key by key, a page a warp with the query heads
// of the group as columns (page-scores.h); of these and the newest pages, whose scores score-pages.cu leaves,
// it finds the best in the same way.
//
// Bytes, for each row and KV head, of which rows of a prompt find most in L2: half * headDim a token of codes
// and 8 * headDim of scales and turn a page of the shortlist; some 24 read a mid page to find the best,
// beside what is in the other two. Of far pages the codes and scales come over the bus. FLOP: 2 * headDim a
// token of the shortlist and head, in tiles of 8 or 16 heads.

#include "cuda/select-pages.h"

#include "core/error.h"
#include "cuda/attention-order.h"
#include "cuda/bound-pages.h"
#include "cuda/global-memory.h"
#include "cuda/keep-best.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"
#include "cuda/page-scores.h"
#include "cuda/score-pages.h"

namespace tandem::cuda {
namespace {

using namespace best;
using namespace promises;

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
static_assert(kThreads == kKeepingThreads);

// Blocks that an SM shall have registers for. Of its own the compiler makes room for more and spills some.
template <int kTiles>
constexpr int kBlocks = kTiles == 1 ? 4 : 3;

template <int kHeadDim, int kTiles>
struct Shared {
  ScoringWarp<kHeadDim, kTiles, Rows::one> warps[kWarps];
  QueryTile<kHeadDim, Rows::one> queries[kTiles];
};

// kTiles of eight query heads.
template <int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kThreads, kBlocks<kTiles>) selectBest(const SelectPages problem) {
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kTiles>*>(keptByWarp(dynamicShared()));
  __shared__ Search search;
  const PartitionedRow row = problem.rows[blockIdx.y];
  const int kvHead = static_cast<int>(blockIdx.x), mid = row.midPages();
  if (mid <= problem.topPages) return;
  const int thread = static_cast<int>(threadIdx.x), warp = keptByWarp(thread / 32);
  const PageFormat& format = problem.tables.format;
  std::uint32_t* orders = ordersOf(problem, blockIdx.y, kvHead);
  std::int32_t* pages =
      problem.pages + (std::int64_t{blockIdx.y} * format.kvHeads + kvHead) * problem.pageStride();

  const int older = problem.olderOf(mid), shortlist = min(older, problem.shortlist());
  if (shortlist > 0) {
    const ColumnRows own{problem.rows + blockIdx.y, 1, problem.heads / format.kvHeads};
    loadQueries<kHeadDim, kThreads>(shared.queries, problem, own, kvHead);
    if (shortlist < older) {
      keepBest([&](int i) { return orders[i]; }, older, shortlist, search, pages,
               [&](int i) { return row.sinkPages + i; });
    } else {
      for (int i = thread; i < shortlist; i += kThreads) pages[i] = row.sinkPages + i;
      __syncthreads();
    }
    scorePages<kHeadDim, kTiles>(
        problem, own, kvHead, shared.queries, shared.warps[warp], warp, shortlist, kWarps,
        [&](int i) { return pages[i]; }, [&](int i, int, std::uint32_t order) { orders[i] = order; });
    __syncthreads();
  }
  // Of the shortlist and, behind it, the newest pages. In `orders` those of the other older pages lie
  // between. The row is read again, since registers are few while pages are scored.
  const PartitionedRow again = *inGlobalMemory(computedAnew(problem.rows + blockIdx.y));
  const int passedBy = older - shortlist;
  const auto placeOf = [&](int i) { return i < shortlist ? i : passedBy + i; };
  keepBest([&](int i) { return orders[placeOf(i)]; }, again.midPages() - passedBy, problem.topPages, search,
           pages, [&](int i) { return i < shortlist ? pages[i] : again.sinkPages + placeOf(i); });
}

}  // namespace

void selectPages(const SelectPages& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "selectPages: heads must be a multiple of kvHeads");
  check(problem.heads / format.kvHeads <= kGroupMost,
        "selectPages supports up to 16 query heads for each KV head");
  check(problem.topPages > 0 && problem.scoredPages >= 0, "selectPages: a row must see some mid pages");
  check(problem.rowCount <= 65535, "selectPages takes up to 65535 rows");
  if (problem.rowCount == 0 || problem.mostMid <= problem.topPages) return;
  boundOlderPages(problem, stream);
  scoreNewestPages(problem, stream);
  const dim3 grid(static_cast<unsigned>(format.kvHeads), static_cast<unsigned>(problem.rowCount));
  withHeadDim(format.headDim, "selectPages", [&](auto headDim) {
    if (problem.heads / format.kvHeads > 8) {
      launchShared("selectPages", selectBest<headDim, 2>, grid, kThreads, sizeof(Shared<headDim, 2>), stream,
                   problem);
    } else {
      launchShared("selectPages", selectBest<headDim, 1>, grid, kThreads, sizeof(Shared<headDim, 1>), stream,
                   problem);
    }
  });
}

}  // namespace tandem::cuda
