// One warp for each sequence, KV head and run of 256 tokens. The query heads of a group are the columns of
// its tensor-core tiles, so they share every load of a page. Runs are merged by their log-sum-exp in a second
// kernel, where there are several.
//
// Bytes: each page once (bf16 4 * headDim a token and KV head, int8 2 * headDim + 8), and 8 * headDim for
// each head and run of a part that is written and read again: 3% of a bf16 run where a group has four heads.
// FLOP: 4 * headDim a token and head, in tiles of 8 or 16 heads.

#include "cuda/decode-attention.h"

#include <cmath>
#include <type_traits>

#include "core/error.h"
#include "cuda/attention-warp.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

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

// The tiles of a step in the order of their use: keys of both pages, then values.
constexpr int kStepTiles = 4;
constexpr int kRunPages = kRunTokens / kPageTokens;

// Steps that are on their way while one is used: 24 KB a warp or more, of 128 channels.
template <PrecisionClass kPool>
constexpr int kStepsAhead = kPool == PrecisionClass::bf16 ? 1 : 2;

template <int kHeadDim, int kTiles, PrecisionClass kPool>
__global__ void __launch_bounds__(32) attendRun(const DecodeAttention problem, float scale) {
  constexpr int kAhead = kStepsAhead<kPool>;
  constexpr int kSlotBytes = PageTile<kHeadDim, true, kPool>::kSlotBytes;
  alignas(128) __shared__ std::byte ring[kStepTiles * kAhead][kSlotBytes];
  const int lane = static_cast<int>(threadIdx.x);
  const int run = static_cast<int>(blockIdx.x), runs = static_cast<int>(gridDim.x),
            kvHead = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const PageFormat& format = problem.tables.format;
  const Seen seen = seenBy(problem, sequence);
  const int begin = max(seen.begin, run * kRunTokens), end = min(seen.end, (run + 1) * kRunTokens);
  if (begin >= end) return;

  // Entries of the run's pages, one a lane; 0 where nothing is seen.
  const int ownPage = run * kRunPages + lane;
  const bool ownSeen = lane < kRunPages && ownPage >= begin / kPageTokens && ownPage * kPageTokens < end;
  const std::uint64_t ownEntry = ownSeen ? problem.tables.entry(sequence, ownPage) : 0;
  const auto entryOf = [&](int step, int page) {
    const int inRun = 2 * step + page;
    return inRun < kRunPages ? __shfl_sync(kWholeWarp, ownEntry, inRun) : 0;
  };
  const auto slotOf = [&](int step, int tile) { return ring[step % kAhead * kStepTiles + tile]; };

  const int group = problem.heads / format.kvHeads;
  const std::int64_t row = problem.rows[sequence];
  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  const bf16* queries = problem.qkv + row * cols + static_cast<std::int64_t>(kvHead) * group * kHeadDim;
  WarpAttention<kHeadDim, kTiles> state(
      lane, scale, [&](int head) { return head < group ? queries + head * kHeadDim : nullptr; });
  state.beginRun();
  const auto copy = [&](int step, auto isKeys) {
#pragma unroll 1
    for (int page = 0; page < 2; ++page) {
      const std::uint64_t entry = entryOf(step, page);
      if (entry) {
        const PrecisionClass precision = PageTables::classOf(entry);
        const std::byte* head = PageTables::pageOf(entry) + format.in(precision).keys(kvHead);
        withTile<kHeadDim, isKeys>(
            precision, [&](auto tile) { tile.copy(slotOf(step, isKeys ? page : 2 + page), head, lane, 32); });
      }
      endCopyGroup();
    }
  };
  // What is asked for after a tile before it is used: the step's tiles behind it, and those of steps ahead.
  constexpr int kBehind = kStepTiles * kAhead;
  const int firstStep = (begin - run * kRunTokens) / kStepTokens;
  const int endStep = (end - run * kRunTokens + kStepTokens - 1) / kStepTokens;
#pragma unroll 1
  for (int step = firstStep - kAhead; step < endStep; ++step) {
    const bool there = step >= firstStep;
    const std::uint64_t entries[2] = {there ? entryOf(step, 0) : 0, there ? entryOf(step, 1) : 0};
    if (there) {
      state.beginStep();
      waitForCopies<kBehind - 1>();
      __syncwarp();
      if (entries[0]) state.score(0, PageTables::classOf(entries[0]), slotOf(step, 0));
      waitForCopies<kBehind - 2>();
      __syncwarp();
      if (entries[1]) state.score(1, PageTables::classOf(entries[1]), slotOf(step, 1));
      __syncwarp();
    }
    copy(step + kAhead, std::true_type());
    if (there) {
      const int token = run * kRunTokens + step * kStepTokens;
      Visible visible[kTiles][2];
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int i = 0; i < 2; ++i) visible[t][i] = {begin - token, end - token};
      }
      state.weigh(visible);
      waitForCopies<kBehind - 1>();
      __syncwarp();
      if (entries[0]) state.addValues(0, PageTables::classOf(entries[0]), slotOf(step, 2));
      waitForCopies<kBehind - 2>();
      __syncwarp();
      if (entries[1]) state.addValues(1, PageTables::classOf(entries[1]), slotOf(step, 3));
      __syncwarp();
    }
    copy(step + kAhead, std::false_type());
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
#pragma unroll
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

template <int kHeadDim, PrecisionClass kPool>
void attendPool(const DecodeAttention& problem, int runs, Stream stream) {
  const PageFormat& format = problem.tables.format;
  const dim3 grid(static_cast<unsigned>(runs), static_cast<unsigned>(format.kvHeads),
                  static_cast<unsigned>(problem.sequences));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  const bool wide = problem.heads / format.kvHeads > 8;
  launch("decodeAttention", wide ? attendRun<kHeadDim, 2, kPool> : attendRun<kHeadDim, 1, kPool>, grid, 32,
         stream, problem, scale);
}

template <int kHeadDim>
void attend(const DecodeAttention& problem, int runs, Stream stream) {
  if (problem.tables.format.precision == PrecisionClass::bf16) {
    attendPool<kHeadDim, PrecisionClass::bf16>(problem, runs, stream);
  } else {
    attendPool<kHeadDim, PrecisionClass::int8>(problem, runs, stream);
  }
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
  withHeadDim(format.headDim, "decodeAttention",
              [&](auto headDim) { attend<headDim>(problem, runs, stream); });
  if (runs > 1) {
    const dim3 heads(static_cast<unsigned>(problem.heads), static_cast<unsigned>(problem.sequences));
    launch("decodeAttention's merge", mergeRuns, heads, static_cast<unsigned>(format.headDim), stream,
           problem, runs);
  }
}

}  // namespace tandem::cuda
