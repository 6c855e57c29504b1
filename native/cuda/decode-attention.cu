// One block for each sequence, KV head and run of 256 tokens. The query heads of a group are the columns of
// its tensor-core tiles, so they share every load of a page. Its four warps divide each step of two pages: 16
// tokens of the scores are one's, 32 channels of the output; in between they exchange maxima and
// probabilities. Runs are merged by their log-sum-exp in a second kernel, where there are several.
//
// Bytes: each page once (bf16 4 * headDim a token and KV head, int8 2 * headDim + 8), and 8 * headDim for
// each head and run of a part that is written and read again: 3% of a bf16 run where a group has four heads.
// FLOP: 4 * headDim a token and head, in tiles of 8 or 16 heads. A step's chain from keys to output takes
// about a thousand cycles, so what is on its way for an SM matters: two steps of bf16 (64 KB for 128
// channels) or four of codes a block, three blocks an SM.

#include "cuda/decode-attention.h"

#include <cmath>
#include <type_traits>

#include "cuda/attention-warp.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = kQuarters;
constexpr int kThreads = 32 * kWarps;
constexpr int kRunPages = kRunTokens / kPageTokens;

// Steps whose pages are on their way or in use.
template <PrecisionClass kPool>
constexpr int kStepsAhead = kPool == PrecisionClass::bf16 ? 2 : 4;

// What a run leaves of a head: out, not yet divided by its sum, then its sums.
__device__ constexpr std::int64_t partFloats(int headDim) { return headDim + 4; }

struct Seen {
  int begin, end;  // tokens
  __device__ int firstRun() const { return begin / kRunTokens; }
  __device__ int runs() const { return (end - 1) / kRunTokens - firstRun() + 1; }
};

__device__ Seen seenBy(const DecodeAttention& problem, int sequence) {
  const int context = problem.contexts[sequence];
  return {problem.window > 0 && context > problem.window ? context - problem.window : 0, context};
}

template <int kTiles>
struct Exchange {
  float highest[kWarps][8 * kTiles];
  float sums[kWarps][8 * kTiles];
  uint2 weights[kQuarters][kTiles][32];  // by lane
};

template <int kHeadDim, int kTiles, PrecisionClass kPool>
struct Shared {
  static constexpr int kSlotBytes = PageTile<kHeadDim, true, kPool>::kSlotBytes;

  std::byte ring[kStepsAhead<kPool>][4][kSlotBytes];  // keys of a step's two pages, then values
  Exchange<kTiles> exchange;
};

template <int kHeadDim, int kTiles, PrecisionClass kPool>
__global__ void __launch_bounds__(kThreads) attendRun(const DecodeAttention problem, float scale) {
  constexpr int kAhead = kStepsAhead<kPool>;
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kTiles, kPool>*>(dynamicShared());
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int g = lane / 4, t = lane % 4;
  const int run = static_cast<int>(blockIdx.x), runs = static_cast<int>(gridDim.x),
            kvHead = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const PageFormat& format = problem.tables.format;
  const Seen seen = seenBy(problem, sequence);
  const int runBegin = run * kRunTokens;
  const int begin = max(seen.begin, runBegin), end = min(seen.end, runBegin + kRunTokens);
  if (begin >= end) return;

  // Entries of the run's pages, one a lane; 0 where nothing is seen.
  const int ownPage = run * kRunPages + lane;
  const bool ownSeen = lane < kRunPages && ownPage >= begin / kPageTokens && ownPage * kPageTokens < end;
  const std::uint64_t ownEntry = ownSeen ? problem.tables.entry(sequence, ownPage) : 0;
  const auto entryOf = [&](int step, int page) {
    const int inRun = 2 * step + page;
    return inRun < kRunPages ? __shfl_sync(kWholeWarp, ownEntry, inRun) : 0;
  };
  const auto slotOf = [&](int step, int tile) { return shared.ring[step % kAhead][tile]; };
  const auto copy = [&](int step, auto isKeys) {
#pragma unroll 1
    for (int page = 0; page < 2; ++page) {
      const std::uint64_t entry = entryOf(step, page);
      if (entry == 0) continue;
      const PrecisionClass precision = PageTables::classOf(entry);
      const std::byte* head = PageTables::pageOf(entry) + format.in(precision).keys(kvHead);
      withTile<kHeadDim, isKeys>(precision, [&](auto tile) {
        tile.template copy<kThreads>(slotOf(step, isKeys ? page : 2 + page), head, threadIdx.x);
      });
    }
    endCopyGroup();
  };
  const std::true_type keys;
  const std::false_type values;
  const int firstStep = (begin - runBegin) / kStepTokens,
            endStep = (end - runBegin + kStepTokens - 1) / kStepTokens;
#pragma unroll 1
  for (int i = 0; i < kAhead; ++i) {
    copy(firstStep + i, keys);
    copy(firstStep + i, values);
  }

  const int group = problem.heads / format.kvHeads;
  const std::int64_t row = problem.rows[sequence];
  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  const bf16* queries = problem.qkv + row * cols + static_cast<std::int64_t>(kvHead) * group * kHeadDim;
  uint2 q[kTiles][kHeadDim / 16];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int head = 8 * tile + g;
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      q[tile][depth] = head < group
                           ? *reinterpret_cast<const uint2*>(queries + head * kHeadDim + 16 * depth + 4 * t)
                           : make_uint2(0, 0);
    }
  }

  // This warp's: a quarter of a step's tokens, and a block of channels.
  const int page = warp / 2, m = warp % 2;
  const bool hasChannels = warp < kHeadDim / 32;
  float highest[kTiles][2], sum[kTiles][2], out[2][kTiles][4];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      highest[tile][i] = kNothingSeen;
      sum[tile][i] = 0;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) out[0][tile][i] = out[1][tile][i] = 0;
  }

#pragma unroll 1
  for (int step = firstStep; step < endStep; ++step) {
    const std::uint64_t entries[2] = {entryOf(step, 0), entryOf(step, 1)};
    const std::uint64_t own = page == 0 ? entries[0] : entries[1];
    // Of the groups behind this step's keys those may be on their way that are not its own.
    constexpr int kBehind = 2 * kAhead - 2;
    waitForCopies<kBehind>();
    __syncthreads();
    if (step > firstStep) copy(step - 1 + kAhead, values);

    float p[kTiles][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p[tile][i] = 0;
    }
    float2 scales = {scale, scale};
    if (own) {
      withTile<kHeadDim, true>(PageTables::classOf(own), [&](auto keys) {
        const std::byte* slot = slotOf(step, page);
#pragma unroll
        for (int depth = 0; depth < kHeadDim / 16; ++depth) {
          std::uint32_t low[2], high[2];
          keys.loadKeys(low, high, slot, depth, m, g, t);
          const std::uint32_t rows[4] = {low[0], low[1], high[0], high[1]};
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) {
            multiplyTiles(p[tile], rows, q[tile][depth].x, q[tile][depth].y);
          }
        }
        if constexpr (keys.kScaledTokens) {
          const float2 ofTokens = keys.loadScales(slot, m, g);
          scales = {__fmul_rn(scale, ofTokens.x), __fmul_rn(scale, ofTokens.y)};
        }
      });
    }
    const int token = runBegin + step * kStepTokens + page * kPageTokens + 4 * g + 2 * m;
    const bool isSeen[2] = {token >= begin && token < end, token + 1 >= begin && token + 1 < end};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float most = kNothingSeen;
        if (isSeen[0]) most = fmaxf(most, __fmul_rn(p[tile][i], scales.x));
        if (isSeen[1]) most = fmaxf(most, __fmul_rn(p[tile][2 + i], scales.y));
        most = highestOfClasses(most);
        if (g == 0) shared.exchange.highest[warp][8 * tile + 2 * t + i] = most;
      }
    }
    waitForCopies<kBehind>();
    __syncthreads();
    copy(step + kAhead, keys);

    float factors[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float most = highest[tile][i];
#pragma unroll
        for (int other = 0; other < kWarps; ++other) {
          most = fmaxf(most, shared.exchange.highest[other][8 * tile + 2 * t + i]);
        }
        factors[tile][i] = exp2Fast(highest[tile][i] - most);
        highest[tile][i] = most;
        p[tile][i] = isSeen[0] ? probability(p[tile][i], scales.x, most) : 0;
        p[tile][2 + i] = isSeen[1] ? probability(p[tile][2 + i], scales.y, most) : 0;
        sum[tile][i] = __fmaf_rn(sum[tile][i], factors[tile][i], p[tile][i] + p[tile][2 + i]);
      }
    }
    if (own && PageTables::classOf(own) == PrecisionClass::int8) {
      const float2 steps =
          PageTile<kHeadDim, false, PrecisionClass::int8>::loadScales(slotOf(step, 2 + page), m, g);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p[tile][i] *= i < 2 ? steps.x : steps.y;
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      shared.exchange.weights[warp][tile][lane] = weightsOf(p[tile]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        out[0][tile][i] = __fmul_rn(out[0][tile][i], factors[tile][i % 2]);
        out[1][tile][i] = __fmul_rn(out[1][tile][i], factors[tile][i % 2]);
      }
    }
    __syncthreads();

#pragma unroll
    for (int of = 0; of < 2; ++of) {
      if (!hasChannels || entries[of] == 0) continue;
      withTile<kHeadDim, false>(PageTables::classOf(entries[of]), [&](auto values) {
        std::uint32_t words[4][4];
        values.loadValues(words, slotOf(step, 2 + of), warp, g, t);
#pragma unroll
        for (int depth = 0; depth < 2; ++depth) {
          const std::uint32_t(&low)[4] = words[depth], (&high)[4] = words[2 + depth];
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) {
            const uint2 weights = shared.exchange.weights[2 * of + depth][tile][lane];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const std::uint32_t rows[4] = {low[2 * i], low[2 * i + 1], high[2 * i], high[2 * i + 1]};
              multiplyTiles(out[i][tile], rows, weights.x, weights.y);
            }
          }
        }
      });
    }
  }

#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float ofQuarter = overClasses(sum[tile][i]);
      if (g == 0) shared.exchange.sums[warp][8 * tile + 2 * t + i] = ofQuarter;
    }
  }
  __syncthreads();
  if (!hasChannels) return;
  const bool whole = seen.runs() == 1;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int query = 8 * tile + 2 * t + i, head = kvHead * group + query;
      if (query >= group) continue;
      const auto& sums = shared.exchange.sums;
      const SoftmaxSums ofRun{highest[tile][i],
                              overQuarters(sums[0][query], sums[1][query], sums[2][query], sums[3][query])};
      float4 four = {out[0][tile][i], out[0][tile][2 + i], out[1][tile][i], out[1][tile][2 + i]};
      const int channel = 32 * warp + 4 * g;
      if (whole) {
        SoftmaxSums total;
        const MergeFactors factors = MergeFactors::merge(total, ofRun);
        const float inverse = 1 / total.sum;
        const auto finish = [&](float value) { return factors.combine(0, value) * inverse; };
        *reinterpret_cast<uint2*>(problem.out + (row * problem.heads + head) * kHeadDim + channel) =
            make_uint2(packBf16(finish(four.x), finish(four.y)), packBf16(finish(four.z), finish(four.w)));
        continue;
      }
      float* part =
          problem.parts +
          ((static_cast<std::int64_t>(sequence) * problem.heads + head) * runs + run) * partFloats(kHeadDim);
      *reinterpret_cast<float4*>(part + channel) = four;
      if (channel == 0) *reinterpret_cast<float2*>(part + kHeadDim) = {ofRun.highest, ofRun.sum};
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
  // Parts are asked for before the chain of merges comes to them.
  constexpr int kAtOnce = 8;
  SoftmaxSums total;
  float out = 0;
  for (int first = 0; first < seen.runs(); first += kAtOnce) {
    float of[kAtOnce];
    float2 sums[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float* part = parts + min(first + i, seen.runs() - 1) * partFloats(headDim);
      of[i] = part[threadIdx.x];
      sums[i] = *reinterpret_cast<const float2*>(part + headDim);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i >= seen.runs()) break;
      const MergeFactors factors = MergeFactors::merge(total, {sums[i].x, sums[i].y});
      out = factors.combine(out, of[i]);
    }
  }
  const std::int64_t row = problem.rows[sequence] * std::int64_t{problem.heads} + blockIdx.x;
  problem.out[row * headDim + threadIdx.x] = roundToBf16(out * (1 / total.sum));
}

int runsOf(int mostTokens) { return (mostTokens + kRunTokens - 1) / kRunTokens; }

template <int kHeadDim, PrecisionClass kPool>
void attend(const DecodeAttention& problem, int runs, Stream stream) {
  const PageFormat& format = problem.tables.format;
  const dim3 grid(static_cast<unsigned>(runs), static_cast<unsigned>(format.kvHeads),
                  static_cast<unsigned>(problem.sequences));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  if (problem.heads / format.kvHeads > 8) {
    launchShared("decodeAttention", attendRun<kHeadDim, 2, kPool>, grid, kThreads,
                 sizeof(Shared<kHeadDim, 2, kPool>), stream, problem, scale);
  } else {
    launchShared("decodeAttention", attendRun<kHeadDim, 1, kPool>, grid, kThreads,
                 sizeof(Shared<kHeadDim, 1, kPool>), stream, problem, scale);
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
  withHeadDim(format.headDim, "decodeAttention", [&](auto headDim) {
    if (format.precision == PrecisionClass::bf16) {
      attend<headDim, PrecisionClass::bf16>(problem, runs, stream);
    } else {
      attend<headDim, PrecisionClass::int8>(problem, runs, stream);
    }
  });
  if (runs > 1) {
    const dim3 heads(static_cast<unsigned>(problem.heads), static_cast<unsigned>(problem.sequences));
    launch("decodeAttention's merge", mergeRuns, heads, static_cast<unsigned>(format.headDim), stream,
           problem, runs);
  }
}

}  // namespace tandem::cuda
