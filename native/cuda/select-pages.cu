// A block is a row and a KV head. It finds the pages that promise most, by the bounds that bound-pages.cu
// leaves where there are many; scores these key by key on tensor cores, a page a warp with the query heads of
// the group as columns; and finds the best of them in the same way.
//
// Bytes, for each row and KV head, of which rows of a prompt find most in L2: half * headDim a token of codes
// and 8 * headDim of scales and turn a page of the shortlist; some 24 read a mid page to find the best,
// beside what is in bound-pages.cu. Of far pages the codes and scales come over the bus. FLOP: 2 * headDim a
// token of the shortlist and head, in tiles of 8 or 16 heads.

#include "cuda/select-pages.h"

#include <cmath>

#include "core/error.h"
#include "cuda/attention-order.h"
#include "cuda/bound-pages.h"
#include "cuda/keep-best.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"
#include "cuda/page-tiles.h"
#include "cuda/page-turns.h"

namespace tandem::cuda {
namespace {

using namespace best;
using namespace promises;

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
static_assert(kThreads == kKeepingThreads);
constexpr int kStages = 2;

// Blocks that an SM shall have registers for. Of its own the compiler makes room for more at a head dimension
// of 32, and spills some; for two tiles it does well without a number (0).
template <int kTiles>
constexpr int kBlocks = kTiles == 1 ? 4 : 0;

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

template <int kHeadDim, int kTiles>
struct Shared {
  // Pages of int4 are the largest that are packed.
  std::byte keys[kWarps][kStages][PageTile<kHeadDim, true, PrecisionClass::int4>::kSlotBytes];
  uint2 queries[kHeadDim / 16][kTiles][32];  // by depth, tile and lane
};

// kTiles of eight query heads.
template <int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kThreads, kBlocks<kTiles>) selectBest(const SelectPages problem) {
  constexpr int kHalfDepths = kHeadDim / 32;
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kTiles>*>(dynamicShared());
  __shared__ Search search;
  const PartitionedRow row = problem.rows[blockIdx.y];
  const int kvHead = static_cast<int>(blockIdx.x), mid = row.midPages();
  if (mid <= problem.topPages) return;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int g = lane / 4, t = lane % 4;
  const PageFormat& format = problem.tables.format;
  const int group = problem.heads / format.kvHeads;

  // All warps have the same operands of the queries.
  const bf16* queries = queriesOf(problem, row, kvHead);
  for (int depth = warp; depth < kHeadDim / 16; depth += kWarps) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int head = 8 * tile + g;
      shared.queries[depth][tile][lane] =
          head < group ? *reinterpret_cast<const uint2*>(queries + head * kHeadDim + 16 * depth + 4 * t)
                       : make_uint2(0, 0);
    }
  }

  std::uint32_t* orders = ordersOf(problem, blockIdx.y, kvHead);
  std::int32_t* pages =
      problem.pages + (std::int64_t{blockIdx.y} * format.kvHeads + kvHead) * problem.pageStride();
  const int count = min(mid, problem.shortlist());
  if (count < mid) {
    keepBest(orders, mid, count, search, pages, [&](int i) { return row.sinkPages + i; });
  } else {
    for (int i = thread; i < count; i += kThreads) pages[i] = row.sinkPages + i;
    __syncthreads();
  }

  const PageFormat outlines{PrecisionClass::far, format.kvHeads, kHeadDim};
  // Begins to bring the keys of a page of the warp's, those of a far one out of host memory.
  const auto bring = [&](int i) {
    const std::uint64_t entry =
        i < count ? PageTables::detailOf(problem.tables.entry(row.sequence, pages[i]), outlines) : 0;
    withPackedKeys<kHeadDim>(entry, [&](auto keys) {
      keys.template copy<32>(shared.keys[warp][i / kWarps % kStages],
                             PageTables::pageOf(entry) + kvHead * keys.kHeadBytes, lane);
    });
    endCopyGroup();
    return entry;
  };
  std::uint64_t next = bring(warp);
#pragma unroll 1
  for (int i = warp; i < count; i += kWarps) {
    const std::uint64_t entry = next;
    next = bring(i + kWarps);
    const float* turn = turnOf(problem, row, pages[i]);
    float p[kTiles][2][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int k = 0; k < 4; ++k) p[tile][0][k] = p[tile][1][k] = 0;
    }
    waitForCopies<kStages - 1>();
    __syncwarp();
    withPackedKeys<kHeadDim>(entry, [&](auto keys) {
      const std::byte* slot = shared.keys[warp][i / kWarps % kStages];
      // Unrolled it takes half as many registers again.
#pragma unroll 1
      for (int depth = 0; depth < kHalfDepths; ++depth) {
        QueryPart turned[kTiles];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const QueryPart part{shared.queries[depth][tile][lane],
                               shared.queries[kHalfDepths + depth][tile][lane]};
          turned[tile] = part.turned(turn, kHeadDim / 2, 16 * depth + 4 * t);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          std::uint32_t low[4], high[4];
          keys.loadKeys(low, high, slot, depth + half * kHalfDepths, g, t);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const std::uint32_t rows[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) {
              const uint2 q = half == 0 ? turned[tile].first : turned[tile].second;
              multiplyTiles(p[tile][m], rows, q.x, q.y);
            }
          }
        }
      }
    });
    __syncwarp();
    std::uint32_t highest = 0;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (8 * tile + 2 * t + k % 2 >= group) continue;
        highest = higherOf(highest, higherOf(promiseOrder(p[tile][0][k]), promiseOrder(p[tile][1][k])));
      }
    }
    highest = __reduce_max_sync(kWholeWarp, highest);
    if (lane == 0) orders[i] = entry == 0 ? 0 : highest;
  }
  waitForCopies<0>();
  __syncthreads();
  keepBest(orders, count, problem.topPages, search, pages, [&](int i) { return pages[i]; });
}

}  // namespace

void selectPages(const SelectPages& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "selectPages: heads must be a multiple of kvHeads");
  check(problem.heads / format.kvHeads <= kGroupMost,
        "selectPages supports up to 16 query heads for each KV head");
  check(problem.topPages > 0, "selectPages: a row must see some mid pages");
  check(problem.rowCount <= 65535, "selectPages takes up to 65535 rows");
  if (problem.rowCount == 0 || problem.mostMid <= problem.topPages) return;
  if (problem.mostMid > problem.shortlist()) boundMidPages(problem, stream);
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
