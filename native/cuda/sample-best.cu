// The best tokens of a row, as a list: for logprobs with the sum of all weights, and for a top-k that a list
// holds with the draw itself. Reads each logit once, 4 bytes. A place in the list costs a block some 100
// cycles, whatever the logits are; the sum about 25 instructions a logit.

#include "cuda/argmax.h"
#include "cuda/block-sums.h"
#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/sample-kernels.h"
#include "cuda/sample-part.h"
#include "cuda/sample-weight.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = kSampleThreads;
constexpr int kWarps = kThreads / 32;
static_assert(kMaxSampleParts == 64, "a lane of the merging warp holds two parts");

struct Part : SamplePart {
  using SamplePart::SamplePart;

  __device__ std::uint64_t weigh(float highest, float scale) const {
    std::uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (orders[i] != 0) sum += weightOf(logitOf(orders[i]), highest, scale);
    }
    return sum;
  }

  __device__ std::uint64_t bestOfThread() const {
    std::uint32_t order = 0;
    int at = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (orders[i] > order) {
        order = orders[i];
        at = i;
      }
    }
    return order == 0 ? 0 : keyOf(order, tokenAt(at));
  }

  __device__ void take(std::uint64_t key) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (tokenAt(i) == tokenIn(key)) orders[i] = 0;
    }
  }

  // Writes the keys of the best `count` tokens, best first; 0 where there are no more.
  __device__ void takeBest(int count, std::uint64_t* keys) {
    __shared__ std::uint64_t warps[2][kWarps];
    std::uint64_t mine = bestOfThread();
    for (int place = 0; place < count; ++place) {
      const std::uint64_t ofWarp = warpHighest(mine);
      if (threadIdx.x % 32 == 0) warps[place % 2][threadIdx.x / 32] = ofWarp;
      __syncthreads();
      std::uint64_t best = 0;
      for (const std::uint64_t key : warps[place % 2]) best = key > best ? key : best;
      if (threadIdx.x == 0) keys[place] = best;
      if (mine == best && best != 0) {
        take(best);
        mine = bestOfThread();
      }
    }
  }
};

// Merges the lists of a row's parts: the first warp takes the best of their heads, one after another.
__device__ void mergeBest(const std::uint64_t* lists, int parts, int count, std::uint64_t* best) {
  __shared__ std::uint64_t held[kMaxSampleParts]
                               [kMaxBest + 1];  // one more, so that heads lie in different banks
  for (int i = static_cast<int>(threadIdx.x); i < parts * kMaxBest; i += kThreads) {
    if (i % kMaxBest < count) held[i / kMaxBest][i % kMaxBest] = lists[i];
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    int taken[2] = {};
    const auto head = [&](int which) {
      const int part = lane + 32 * which;
      return part < parts && taken[which] < count ? held[part][taken[which]] : std::uint64_t{0};
    };
    std::uint64_t heads[2] = {head(0), head(1)};
    for (int place = 0; place < count; ++place) {
      const std::uint64_t highest = warpHighest(heads[0] > heads[1] ? heads[0] : heads[1]);
      if (lane == 0) best[place] = highest;
      for (int which = 0; which < 2; ++which) {
        if (heads[which] != highest || highest == 0) continue;
        ++taken[which];
        heads[which] = head(which);
      }
    }
  }
  __syncthreads();
}

// A draw among the best, of which thread i holds the i-th.
__device__ void drawAmong(const SampleStep& step, int row, const std::uint64_t* best) {
  const SampleRow& wants = step.rows[row];
  const int count = static_cast<int>(wants.topK), mine = static_cast<int>(threadIdx.x);
  const float highest = step.highest[row];
  __shared__ std::uint64_t weights[kMaxBest];
  const float logit = mine < count ? logitOf(orderIn(best[mine])) : 0;
  std::uint64_t weight = mine < count ? weightOf(logit, highest, wants.scale) : 0;
  if (wants.topP != 0) {
    const BlockSums sums = blockSums<kThreads>(weight);
    // The fewest whose weights reach the fraction; the best one always.
    if (mine > 0 && sums.before >= fractionUp(sums.all, wants.topP)) weight = 0;
  }
  if (orderOf(logit) < orderOf(highest + wants.minP)) weight = 0;
  const std::uint64_t all = blockSums<kThreads>(weight).all;
  if (all == 0 && mine == 0) step.tokens[row] = kNoLogits;
  const std::uint64_t drawn = fractionOf(all, wants.uniform);
  if (mine < count) weights[mine] = weight;
  __syncthreads();
  if (weight == 0) return;
  std::uint64_t before = 0;
  for (int other = 0; other < count; ++other) {
    if (tokenIn(best[other]) < tokenIn(best[mine])) before += weights[other];
  }
  if (before <= drawn && drawn < before + weight) step.tokens[row] = tokenIn(best[mine]);
}

template <bool kDraw>
__global__ void __launch_bounds__(kThreads) bestOfRow(const SampleStep step, const SampleRows rows) {
  const int row = rows.of[blockIdx.y], parts = static_cast<int>(gridDim.x);
  if (step.tokens[row] < 0) return;
  const SampleRow& wants = step.rows[row];
  const int count = kDraw ? static_cast<int>(wants.topK) : wants.best;
  Part part(step.logits + row * static_cast<std::int64_t>(step.vocab), step.vocab);
  std::uint64_t* sums = step.partSums + row * static_cast<std::int64_t>(parts);
  std::uint64_t* lists = step.partBest + row * static_cast<std::int64_t>(parts) * kMaxBest;
  if (!kDraw) {
    const std::uint64_t sum = blockSums<kThreads>(part.weigh(step.highest[row], 1)).all;
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
  part.takeBest(count, lists + blockIdx.x * kMaxBest);
  if (!comesLast(step.arrived + row, gridDim.x)) return;

  __shared__ std::uint64_t best[kMaxBest];
  mergeBest(lists, parts, count, best);
  if (kDraw) return drawAmong(step, row, best);
  const int mine = static_cast<int>(threadIdx.x);
  const std::uint64_t total = blockSums<kThreads>(mine < parts ? sums[mine] : 0).all;
  if (mine == 0) step.totals[row] = total;
  if (mine < count) {
    step.best[row * static_cast<std::int64_t>(step.bestStride) + mine] = {tokenIn(best[mine]),
                                                                          logitOf(orderIn(best[mine]))};
  }
}

dim3 gridOf(const SampleStep& step, const SampleRows& rows) {
  return {static_cast<unsigned>(step.parts()), static_cast<unsigned>(rows.count)};
}

}  // namespace

void measureRows(const SampleStep& step, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  launch("measureRows", bestOfRow<false>, gridOf(step, rows), kThreads, stream, step, rows);
}

void drawAmongBest(const SampleStep& step, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  launch("drawAmongBest", bestOfRow<true>, gridOf(step, rows), kThreads, stream, step, rows);
}

}  // namespace tandem::cuda
