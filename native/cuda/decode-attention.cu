// One warp for each sequence, KV head and run of 256 tokens. The query heads of a group are the columns of
// its tensor-core tiles, so they share every load of a page. Runs are merged by their log-sum-exp in a second
// kernel, where there are several.
//
// Bytes: each page once (bf16 4 * headDim a token and KV head, int8 2 * headDim + 8), and 8 * headDim for
// each head and run of a part that is written and read again: 3% of a bf16 run where a group has four heads.
// FLOP: 4 * headDim a token and head, in tiles of 8 or 16 heads.

#include "cuda/decode-attention.h"

#include <cmath>

#include "core/error.h"
#include "cuda/attention-warp.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;

// What a run leaves of a head: out, not yet divided by its sum, then its sums.
__device__ constexpr std::int64_t partFloats(int headDim) { return headDim + 4; }

__device__ void writeSums(float* part, const SoftmaxSums& sums) {
  part[0] = sums.highest;
  part[1] = sums.sum;
  part[2] = sums.middle;
}
__device__ SoftmaxSums readSums(const float* part) { return {part[0], part[1], part[2]}; }

struct Seen {
  int begin, end;  // tokens
  __device__ int firstRun() const { return begin / kRunTokens; }
  __device__ int runs() const { return (end - 1) / kRunTokens - firstRun() + 1; }
};

__device__ Seen seenBy(const DecodeAttention& problem, int sequence) {
  const int context = problem.contexts[sequence];
  return {problem.window > 0 && context > problem.window ? context - problem.window : 0, context};
}

template <int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kThreads) attendRuns(const DecodeAttention problem, int runs, float scale) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int run = static_cast<int>(blockIdx.x) * kWarps + warp, kvHead = static_cast<int>(blockIdx.y),
            sequence = static_cast<int>(blockIdx.z);
  const PageFormat& format = problem.tables.format;
  const Seen seen = seenBy(problem, sequence);
  const int begin = max(seen.begin, run * kRunTokens), end = min(seen.end, (run + 1) * kRunTokens);
  if (begin >= end) return;

  const int group = problem.heads / format.kvHeads;
  const std::int64_t row = problem.rows[sequence];
  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  const bf16* queries = problem.qkv + row * cols + static_cast<std::int64_t>(kvHead) * group * kHeadDim;
  WarpAttention<kHeadDim, kTiles> state(
      lane, scale, [&](int head) { return head < group ? queries + head * kHeadDim : nullptr; });
  state.beginRun();
  for (int token = begin / kStepTokens * kStepTokens; token < end; token += kStepTokens) {
    const auto entryOf = [&](int at) {
      return at < end && at + kPageTokens > begin ? problem.tables.entry(sequence, at / kPageTokens) : 0;
    };
    Visible visible[kTiles][2];
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int i = 0; i < 2; ++i) visible[tile][i] = {begin - token, end - token};
    }
    state.step(format, kvHead, entryOf(token), entryOf(token + kPageTokens), visible);
  }

  const bool whole = seen.runs() == 1;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const SoftmaxSums sums = state.endRun(tile, i);
      const int query = state.queryOf(tile, i);
      if (query >= group) continue;
      const int head = kvHead * group + query;
      bf16* out = problem.out + (row * problem.heads + head) * kHeadDim;
      float* part =
          problem.parts +
          ((static_cast<std::int64_t>(sequence) * problem.heads + head) * runs + run) * partFloats(kHeadDim);
      const Finish finish(sums);
#pragma unroll
      for (int block = 0; block < kHeadDim / 32; ++block) {
        const int channel = state.channelOf(block);
        float four[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) four[c] = state.out(tile, i, block, c);
        if (whole) {
          *reinterpret_cast<uint2*>(out + channel) = make_uint2(packBf16(finish(four[0]), finish(four[1])),
                                                                packBf16(finish(four[2]), finish(four[3])));
        } else {
          for (int c = 0; c < 4; ++c) part[channel + c] = four[c];
        }
      }
      if (!whole && lane < 4) writeSums(part + kHeadDim, sums);
    }
  }
}

// A block is a head of a sequence, a thread a channel.
__global__ void mergeRuns(const DecodeAttention problem, int runs) {
  const int sequence = static_cast<int>(blockIdx.y), headDim = problem.tables.format.headDim;
  const Seen seen = seenBy(problem, sequence);
  if (seen.runs() == 1) return;
  const std::int64_t head = static_cast<std::int64_t>(sequence) * problem.heads + blockIdx.x;
  const float* parts = problem.parts + (head * runs + seen.firstRun()) * partFloats(headDim);
  SoftmaxSums total;
  float out = 0;
#pragma unroll 8
  for (int i = 0; i < seen.runs(); ++i) {
    const float* part = parts + i * partFloats(headDim);
    const MergeFactors factors = MergeFactors::merge(total, readSums(part + headDim));
    out = factors.combine(out, part[threadIdx.x]);
  }
  const std::int64_t row = problem.rows[sequence] * std::int64_t{problem.heads} + blockIdx.x;
  problem.out[row * headDim + threadIdx.x] = roundToBf16(Finish(total)(out));
}

int runsOf(int mostTokens) { return (mostTokens + kRunTokens - 1) / kRunTokens; }

template <int kHeadDim>
void attend(const DecodeAttention& problem, int runs, Stream stream) {
  const PageFormat& format = problem.tables.format;
  const dim3 grid(static_cast<unsigned>((runs + kWarps - 1) / kWarps), static_cast<unsigned>(format.kvHeads),
                  static_cast<unsigned>(problem.sequences));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  launch("decodeAttention",
         problem.heads / format.kvHeads > 8 ? attendRuns<kHeadDim, 2> : attendRuns<kHeadDim, 1>, grid,
         kThreads, stream, problem, runs, scale);
}

}  // namespace

std::size_t decodeAttentionScratch(int sequences, int mostTokens, int heads, int headDim) {
  return static_cast<std::size_t>(sequences) * heads * runsOf(mostTokens) * partFloats(headDim) *
         sizeof(float);
}

void decodeAttention(const DecodeAttention& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(!isPacked(format.precision), "decodeAttention: pages are appended in bf16 or int8");
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "decodeAttention: heads must be a multiple of kvHeads");
  check(problem.heads / format.kvHeads <= kGroupMost,
        "decodeAttention supports up to 16 query heads for each KV head");
  check(problem.sequences <= 65535, "decodeAttention takes up to 65535 sequences");
  if (problem.sequences == 0 || problem.mostTokens == 0) return;
  const int runs = runsOf(problem.mostTokens);
  switch (format.headDim) {
    case 32:
      attend<32>(problem, runs, stream);
      break;
    case 64:
      attend<64>(problem, runs, stream);
      break;
    case 96:
      attend<96>(problem, runs, stream);
      break;
    case 128:
      attend<128>(problem, runs, stream);
      break;
    default:
      throw Error("decodeAttention supports head dimensions of 32, 64, 96 and 128, not " +
                  std::to_string(format.headDim));
  }
  if (runs > 1) {
    const dim3 heads(static_cast<unsigned>(problem.heads), static_cast<unsigned>(problem.sequences));
    launch("decodeAttention's merge", mergeRuns, heads, static_cast<unsigned>(format.headDim), stream,
           problem, runs);
  }
}

}  // namespace tandem::cuda
