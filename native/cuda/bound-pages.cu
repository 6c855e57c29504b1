// A block is a row, a KV head and 32 of its older mid pages, of which a warp takes one after the other: two
// channels of the query and their partners a lane, turned, against the channels' scales.
//
// Bytes, for each row and KV head, of which rows of a prompt find most in L2: 4 * headDim of scales and as
// many of the turn an older page, 4 written. FLOP: 10 * headDim an older page and head.

#include "cuda/bound-pages.h"

#include <cmath>

#include "cuda/attention-order.h"
#include "cuda/bf16-pair.h"
#include "cuda/global-memory.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"
#include "cuda/warp-halves.h"

namespace tandem::cuda {
namespace {

using namespace promises;

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kBoundPages = 32;  // of a block
constexpr int kHeadsTogether = 4;

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads) boundPages(const SelectPages problem) {
  constexpr int kHalf = kHeadDim / 2;
  static_assert(kHalf <= 64, "a lane has two channels and their partners");
  alignas(8) __shared__ float queries[kGroupMost * kHeadDim];
  const PartitionedRow row = problem.rows[blockIdx.z];
  const int kvHead = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.x) * kBoundPages;
  const int older = problem.olderOf(row.midPages()), end = min(older, first + kBoundPages);
  if (older <= problem.shortlist() || first >= older) return;

  const PageFormat& format = problem.tables.format;
  const int group = problem.heads / format.kvHeads;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const auto* pairs = reinterpret_cast<const std::uint32_t*>(queriesOf(problem, row, kvHead));
  for (int i = thread; i < group * kHalf; i += kThreads) {
    const std::uint32_t pair = pairs[i];
    queries[2 * i] = lowFloat(pair);
    queries[2 * i + 1] = highFloat(pair);
  }
  __syncthreads();

  std::uint32_t* orders = ordersOf(problem, blockIdx.z, kvHead);
  const int channel = 2 * lane;
  // Where the scales of the warp's pages lie, of which a lane looks up one each, as every step of the way
  // takes some hundred clocks; the lowest bit is set for int2. 0 where a page was given up.
  const auto scalesOf = [&](int i) -> std::uint64_t {
    const std::uint64_t entry = problem.tables.entry(row.sequence, row.sinkPages + i);
    if (entry == 0) return 0;
    const PageFormat own = format.in(PageTables::classOf(entry));
    return reinterpret_cast<std::uintptr_t>(PageTables::pageOf(entry) + own.keyScales(kvHead)) |
           std::uint64_t{own.precision == PrecisionClass::int2};
  };
  const int looked = first + warp + kWarps * lane;
  const std::uint64_t places = looked < end ? scalesOf(looked) : 0;
  for (int n = 0; n < kBoundPages / kWarps; ++n) {
    const int i = first + warp + kWarps * n;
    if (i >= end) break;
    const std::uint64_t place = __shfl_sync(kWholeWarp, places, n);
    if (place == 0) {  // nobody sees it
      if (lane == 0) orders[i] = 0;
      continue;
    }
    float2 cosines{0, 0}, sines{0, 0}, lowReach{0, 0}, highReach{0, 0}, lowMiddle{0, 0}, highMiddle{0, 0};
    if (channel < kHalf) {
      const auto* scales =
          inGlobalMemory(reinterpret_cast<const std::uint32_t*>(place & ~std::uint64_t{1})) + lane;
      const auto* turn =
          reinterpret_cast<const float2*>(turnOf<kHeadDim>(problem, row, row.sinkPages + i)) + lane;
      const std::uint32_t low = scales[0], high = scales[kHalf / 2];
      const std::uint32_t lows = scales[kHalf], highs = scales[kHalf + kHalf / 2];
      cosines = turn[0], sines = turn[kHalf / 2];
      // In steps of a channel.
      const float reach = kReachShare * ((place & 1) != 0 ? 1.5f : 7.5f);
      lowReach = {reach * lowFloat(low), reach * highFloat(low)};
      highReach = {reach * lowFloat(high), reach * highFloat(high)};
      lowMiddle = {lowFloat(lows), highFloat(lows)};
      highMiddle = {lowFloat(highs), highFloat(highs)};
    }
    const auto boundOf = [&](int head) {
      float bound = 0;
      if (channel < kHalf) {
        const float* query = queries + head * kHeadDim + channel;
        const auto add = [&](float a, float b, float cosine, float sine, float lowMiddle, float lowReach,
                             float highMiddle, float highReach) {
          const float low = a * cosine - b * sine, high = b * cosine + a * sine;
          bound += low * lowMiddle + fabsf(low) * lowReach + high * highMiddle + fabsf(high) * highReach;
        };
        const auto* first = reinterpret_cast<const float2*>(query);
        const auto* second = reinterpret_cast<const float2*>(query + kHalf);
        add(first->x, second->x, cosines.x, sines.x, lowMiddle.x, lowReach.x, highMiddle.x, highReach.x);
        add(first->y, second->y, cosines.y, sines.y, lowMiddle.y, lowReach.y, highMiddle.y, highReach.y);
      }
      return bound;
    };
    // Four heads are added up together, so that each quarter of the warp ends with one.
    const auto sum = [](float a, float b) { return a + b; };
    std::uint32_t highest = 0;
    int head = 0;
    do {  // there is one, so nothing has to be known before what was loaded is waited for
      float bounds[kHeadsTogether];
#pragma unroll
      for (int k = 0; k < kHeadsTogether; ++k) bounds[k] = head + k < group ? boundOf(head + k) : -INFINITY;
      divide<2>(bounds, 16, sum);
      divide<1>(bounds, 8, sum);
      for (int lanes = 4; lanes > 0; lanes /= 2) {
        bounds[0] += __shfl_xor_sync(kWholeWarp, bounds[0], lanes);
      }
      highest = higherOf(highest, promiseOrder(bounds[0]));
      head += kHeadsTogether;
    } while (head < group);
    highest = __reduce_max_sync(kWholeWarp, highest);
    if (lane == 0) orders[i] = highest;
  }
}

}  // namespace

void boundOlderPages(const SelectPages& problem, Stream stream) {
  const int mostOlder = problem.olderOf(problem.mostMid);
  if (mostOlder <= problem.shortlist() || problem.rowCount == 0) return;
  const PageFormat& format = problem.tables.format;
  const dim3 grid(static_cast<unsigned>((mostOlder + kBoundPages - 1) / kBoundPages),
                  static_cast<unsigned>(format.kvHeads), static_cast<unsigned>(problem.rowCount));
  withHeadDim(format.headDim, "selectPages", [&](auto headDim) {
    launch("selectPages' bounds", boundPages<headDim>, grid, kThreads, stream, problem);
  });
}

}  // namespace tandem::cuda
