// Two kernels. In the first a block is a row, a KV head and 32 mid pages, of which a warp takes one after the
// other: two channels of the query and their partners a lane, turned, against the channels' scales. In the
// second a block is a row and a KV head: it finds the pages that promise most by the digits of their order,
// scores these key by key on tensor cores, a page a warp with the query heads of the group as columns, and
// finds the best of them in the same way.
//
// Bytes, for each row and KV head, of which rows of a prompt find most in L2: 4 * headDim of scales and as
// many of the turn a mid page, half * headDim a token of codes and the same again of scales and turn a page
// of the shortlist; 4 written and some 24 read a mid page to find the best. FLOP: 10 * headDim a mid page and
// head, 2 * headDim a token of the shortlist in tiles of 8 or 16 heads.

#include "cuda/select-pages.h"

#include <cmath>

#include "core/error.h"
#include "cuda/attention-order.h"
#include "cuda/block-sums.h"
#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/page-tiles.h"
#include "cuda/page-turns.h"

namespace tandem::cuda {
namespace {

constexpr int kBoundWarps = 4;
constexpr int kBoundThreads = 32 * kBoundWarps;
constexpr int kBoundPages = 32;  // of a block

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kStages = 2;

// Of the order of a promise, eight bits at a time, a thread for each of their values.
constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
static_assert(kDigits == kThreads);

// What is not a number shall be seen, and it has no place in an order.
__device__ std::uint32_t promiseOrder(float promise) {
  return promise == promise ? orderOf(promise) : kOrderOfInfinity;
}

__device__ std::uint32_t higherOf(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }

__device__ std::uint32_t* ordersOf(const SelectPages& problem, unsigned row, int kvHead) {
  return problem.orders +
         (std::int64_t{row} * problem.tables.format.kvHeads + kvHead) * std::int64_t{problem.mostMid};
}

// A row's query heads of a KV head, [group, headDim].
__device__ const bf16* queriesOf(const SelectPages& problem, const PartitionedRow& row, int kvHead) {
  const PageFormat& format = problem.tables.format;
  const std::int64_t cols = std::int64_t{problem.heads + 2 * format.kvHeads} * format.headDim;
  return problem.qkv + row.row * cols +
         std::int64_t{kvHead} * (problem.heads / format.kvHeads) * format.headDim;
}

// While pages are chosen, each is looked at as if it stood right before the recent ones.
__device__ const float* turnOf(const SelectPages& problem, const PartitionedRow& row, int page) {
  return problem.turns + std::int64_t{row.midEnd - 1 - page} * problem.tables.format.headDim;
}

template <int kHeadDim>
__global__ void __launch_bounds__(kBoundThreads) boundPages(const SelectPages problem) {
  constexpr int kHalf = kHeadDim / 2;
  static_assert(kHalf <= 64, "a lane has two channels and their partners");
  __shared__ float queries[kGroupMost * kHeadDim];
  const PartitionedRow row = problem.rows[blockIdx.z];
  const int kvHead = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.x) * kBoundPages;
  const int mid = row.midPages(), end = min(mid, first + kBoundPages);
  if (mid <= problem.shortlist() || first >= mid) return;

  const PageFormat& format = problem.tables.format;
  const int group = problem.heads / format.kvHeads;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const auto* pairs = reinterpret_cast<const std::uint32_t*>(queriesOf(problem, row, kvHead));
  for (int i = thread; i < group * kHalf; i += kBoundThreads) {
    const std::uint32_t pair = pairs[i];
    queries[2 * i] = lowFloat(pair);
    queries[2 * i + 1] = highFloat(pair);
  }
  __syncthreads();

  std::uint32_t* orders = ordersOf(problem, blockIdx.z, kvHead);
  const int channel = 2 * lane;
  for (int i = first + warp; i < end; i += kBoundWarps) {
    const int page = row.sinkPages + i;
    const std::uint64_t entry = problem.tables.entry(row.sequence, page);
    if (entry == 0) {  // given up: nobody sees it
      if (lane == 0) orders[i] = 0;
      continue;
    }
    const PageFormat own = format.in(PageTables::classOf(entry));
    const auto pairAt = [&](int index) {
      const auto* scales = PageTables::pageOf(entry) + own.keyScales(kvHead);
      return *reinterpret_cast<const std::uint32_t*>(scales + sizeof(bf16) * index);
    };
    const float* turn = turnOf(problem, row, page);
    float2 cosines{0, 0}, sines{0, 0}, lowReach{0, 0}, highReach{0, 0}, lowMiddle{0, 0}, highMiddle{0, 0};
    if (channel < kHalf) {
      cosines = *reinterpret_cast<const float2*>(turn + channel);
      sines = *reinterpret_cast<const float2*>(turn + kHalf + channel);
      const float reach =
          kReachShare * static_cast<float>((1 << bitsOf(own.precision)) - 1) / 2;  // in steps of a channel
      const std::uint32_t low = pairAt(channel), high = pairAt(kHalf + channel);
      lowReach = {reach * lowFloat(low), reach * highFloat(low)};
      highReach = {reach * lowFloat(high), reach * highFloat(high)};
      const std::uint32_t lows = pairAt(kHeadDim + channel), highs = pairAt(kHeadDim + kHalf + channel);
      lowMiddle = {lowFloat(lows), highFloat(lows)};
      highMiddle = {lowFloat(highs), highFloat(highs)};
    }
    std::uint32_t highest = 0;
    for (int head = 0; head < group; ++head) {
      float bound = 0;
      if (channel < kHalf) {
        const float* query = queries + head * kHeadDim + channel;
        const auto add = [&](float a, float b, float cosine, float sine, float lowMiddle, float lowReach,
                             float highMiddle, float highReach) {
          const float low = a * cosine - b * sine, high = b * cosine + a * sine;
          bound += low * lowMiddle + fabsf(low) * lowReach + high * highMiddle + fabsf(high) * highReach;
        };
        add(query[0], query[kHalf], cosines.x, sines.x, lowMiddle.x, lowReach.x, highMiddle.x, highReach.x);
        add(query[1], query[kHalf + 1], cosines.y, sines.y, lowMiddle.y, lowReach.y, highMiddle.y,
            highReach.y);
      }
      highest = higherOf(highest, promiseOrder(warpSum(bound)));
    }
    if (lane == 0) orders[i] = highest;
  }
}

// Of pages that promise most, the last one's order, and how many of that order are among them.
struct Limit {
  std::uint32_t order;
  std::uint32_t equals;
};

struct Search {
  std::uint32_t counts[kDigits];
  std::uint32_t digit, left;
};

// Of the `count` highest of `size` orders, count <= size. The whole block together.
__device__ Limit limitOf(const std::uint32_t* orders, int size, int count, Search& search) {
  const int thread = static_cast<int>(threadIdx.x);
  std::uint32_t known = 0;
  auto left = static_cast<std::uint32_t>(count);
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    const bool isFirst = shift == 32 - kDigitBits;
    search.counts[thread] = 0;
    __syncthreads();
    for (int i = thread; i < size; i += kThreads) {
      const std::uint32_t order = orders[i];
      if (isFirst || order >> (shift + kDigitBits) == known) {
        atomicAdd(&search.counts[order >> shift & (kDigits - 1)], 1u);
      }
    }
    __syncthreads();
    // Thread t has the t-th highest value of the digit.
    const auto digit = static_cast<std::uint32_t>(kDigits - 1 - thread);
    const std::uint32_t mine = search.counts[digit];
    const auto before = static_cast<std::uint32_t>(blockSums<kThreads>(mine).before);
    if (before < left && left <= before + mine) {
      search.digit = digit;
      search.left = left - before;
    }
    __syncthreads();
    known = known << kDigitBits | search.digit;
    left = search.left;
  }
  return {known, left};
}

// Writes valueOf(i) of the `count` highest of `size` orders one after another, in ascending i. `to` may be
// where valueOf reads, since no value moves up. The whole block together.
template <class ValueOf>
__device__ void keepBest(const std::uint32_t* orders, int size, int count, Search& search, std::int32_t* to,
                         const ValueOf& valueOf) {
  const Limit limit = limitOf(orders, size, count, search);
  std::uint32_t higher = 0, equals = 0;  // before the thread
  for (int first = 0; first < size; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const std::uint32_t order = i < size ? orders[i] : 0;
    const bool isHigher = i < size && order > limit.order, isEqual = i < size && order == limit.order;
    const std::int32_t value = i < size ? valueOf(i) : 0;
    const BlockSums sums = blockSums<kThreads>(std::uint64_t{isHigher} << 32 | std::uint64_t{isEqual});
    const std::uint32_t higherBefore = higher + static_cast<std::uint32_t>(sums.before >> 32);
    const std::uint32_t equalsBefore = equals + static_cast<std::uint32_t>(sums.before);
    if (isHigher || (isEqual && equalsBefore < limit.equals)) {
      to[higherBefore + (equalsBefore < limit.equals ? equalsBefore : limit.equals)] = value;
    }
    higher += static_cast<std::uint32_t>(sums.all >> 32);
    equals += static_cast<std::uint32_t>(sums.all);
  }
  __syncthreads();
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

template <int kHeadDim, int kTiles>
struct Shared {
  // Pages of int4 are the largest that are packed.
  std::byte keys[kWarps][kStages][PageTile<kHeadDim, true, PrecisionClass::int4>::kSlotBytes];
  uint2 queries[kHeadDim / 16][kTiles][32];  // by depth, tile and lane
};

// kTiles of eight query heads.
template <int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kThreads) selectBest(const SelectPages problem) {
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

  // Begins to bring the keys of a page of the warp's.
  const auto bring = [&](int i) {
    const std::uint64_t entry = i < count ? problem.tables.entry(row.sequence, pages[i]) : 0;
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
  const auto rows = static_cast<unsigned>(problem.rowCount), kvHeads = static_cast<unsigned>(format.kvHeads);
  withHeadDim(format.headDim, "selectPages", [&](auto headDim) {
    if (problem.mostMid > problem.shortlist()) {
      const auto blocks = static_cast<unsigned>((problem.mostMid + kBoundPages - 1) / kBoundPages);
      launch("selectPages' bounds", boundPages<headDim>, dim3(blocks, kvHeads, rows), kBoundThreads, stream,
             problem);
    }
    const dim3 grid(kvHeads, rows);
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
