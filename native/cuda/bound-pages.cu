// A block is a row, a KV head and 32 of its older mid pages, of which a warp takes one after the other: two
// channels of the query and their partners a lane, turned, against the channels' scales.
//
// Bytes, for each row and KV head, of which rows of a prompt find most in L2: 4 * headDim of scales and as
// many of the turn an older page, 4 written. FLOP: 10 * headDim an older page and head.

#include "cuda/bound-pages.h"

#include "cuda/attention-order.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/page-promises.h"

namespace tandem::cuda {
namespace {

using namespace promises;

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kBoundPages = 32;  // of a block

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads) boundPages(const SelectPages problem) {
  constexpr int kHalf = kHeadDim / 2;
  static_assert(kHalf <= 64, "a lane has two channels and their partners");
  __shared__ float queries[kGroupMost * kHeadDim];
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
  for (int i = first + warp; i < end; i += kWarps) {
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
    const float* turn = turnOf<kHeadDim>(problem, row, page);
    float2 cosines{0, 0}, sines{0, 0}, lowReach{0, 0}, highReach{0, 0}, lowMiddle{0, 0}, highMiddle{0, 0};
    if (channel < kHalf) {
      cosines = *reinterpret_cast<const float2*>(turn + channel);
      sines = *reinterpret_cast<const float2*>(turn + kHalf + channel);
      const int bits = bitsOf(elementClass(own.precision));
      const float reach = kReachShare * static_cast<float>((1 << bits) - 1) / 2;  // in steps of a channel
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
