// Bytes: each part once, and 2 * headDim a head. FLOP: 3 a channel and run.

#include "cuda/decode-merge.h"

#include "cuda/attention-order.h"
#include "cuda/bf16-pair.h"
#include "cuda/decode-runs.h"
#include "cuda/kernel.h"
#include "cuda/rows-map.h"

namespace tandem::cuda {
namespace {

using namespace decode;

// A block is a head of a sequence, a thread a channel. The highest base of all runs up to each is the same
// in every order, so that a lane of each warp finds a run's factors; what remains a chain is one step a run.
__global__ void mergeRuns(const DecodeAttention problem, int runs) {
  constexpr int kAtOnce = 32;
  const int sequence = static_cast<int>(blockIdx.y), headDim = problem.tables.format.headDim;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = problem.rows[sequence];
  const Seen seen = seenBy(problem, problem.contexts[sequence]);
  // Every block, whatever it has to do: what comes behind this kernel waits for its end alone.
  waitForKernelsBefore();
  if (seen.runs() == 1) return;
  const std::int64_t head = static_cast<std::int64_t>(sequence) * problem.heads + blockIdx.x;
  const float* parts = problem.parts + (head * runs + seen.firstRun()) * partFloats(headDim);
  float base = kNothingSeen, sum = 0, out = 0;
#pragma unroll 1
  for (int first = 0; first < seen.runs(); first += kAtOnce) {
    const int count = min(kAtOnce, seen.runs() - first);
    const float* part = parts + first * partFloats(headDim);
    float of[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) of[i] = i < count ? part[i * partFloats(headDim) + threadIdx.x] : 0;
    const float2 own = lane < count
                           ? *reinterpret_cast<const float2*>(part + lane * partFloats(headDim) + headDim)
                           : float2{kNothingSeen, 0};
    float most = fmaxf(base, own.x);
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) most = fmaxf(most, __shfl_up_sync(kWholeWarp, most, lanes));
    const float up = __shfl_up_sync(kWholeWarp, most, 1);
    const MergeFactors factors = MergeFactors::of(lane == 0 ? base : up, own.x, most);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (i >= count) break;
      const MergeFactors ofRun{__shfl_sync(kWholeWarp, factors.before, i),
                               __shfl_sync(kWholeWarp, factors.later, i)};
      out = ofRun.combine(out, of[i]);
      sum = ofRun.combine(sum, __shfl_sync(kWholeWarp, own.y, i));
    }
    base = __shfl_sync(kWholeWarp, most, 31);
  }
  problem.out[(row * problem.heads + blockIdx.x) * headDim + threadIdx.x] = roundToBf16(out * (1 / sum));
}

}  // namespace

void mergeDecodeRuns(const DecodeAttention& problem, int runs, Stream stream) {
  const dim3 heads(static_cast<unsigned>(problem.heads), static_cast<unsigned>(problem.sequences));
  // Where that can be, it begins with the blocks of the first that are last.
  static const bool early = hasWgmma();
  const auto threads = static_cast<unsigned>(problem.tables.format.headDim);
  early ? launchEarly("decodeAttention's merge", mergeRuns, heads, threads, 0, stream, problem, runs)
        : launch("decodeAttention's merge", mergeRuns, heads, threads, stream, problem, runs);
}

}  // namespace tandem::cuda
