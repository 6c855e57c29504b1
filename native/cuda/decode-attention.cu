// One block for each sequence, KV head and run of 256 tokens, or some runs in turn. The query heads of a
// group are the columns of its tensor-core tiles, so they share every load of a page. Its four warps take a
// run in two rounds of four pages: each brings and scores a page of its own, then has 32 channels of the
// output over all four. In between they exchange the highest scores and the probabilities. A page is brought
// as soon as the one before has left its place. Runs are merged by their log-sum-exp in a second kernel
// (decode-merge.cu), where there are several.
//
// Bytes: each page once (bf16 4 * headDim a token and KV head, int8 2 * headDim + 8), and 8 * headDim for
// each head and run of a part that is written and read again: 3% of a bf16 run where a group has four heads.
// FLOP: 4 * headDim a token and head, in tiles of 8 or 16 heads. Codes are bound by instructions, of which a
// pair takes 4 in int8 (a byte permutation, two masks, a difference) and 3.5 to 4 in int4 and int2 (a mask,
// two multiply-adds, half a shift or a whole one): more than half of what a warp does. Blocks of an SM are at
// different points, so that some wait for memory while others compute: as many as there is room for, three
// where pages are bf16 (64 KB a round for 128 channels), five of int8, six where a group has up to four
// heads.

#include "cuda/decode-attention.h"

#include <cmath>
#include <type_traits>

#include "cuda/attention-warp.h"
#include "cuda/decode-attention-block.h"
#include "cuda/decode-attention-page.h"
#include "cuda/decode-attention-run.h"
#include "cuda/decode-merge.h"
#include "cuda/decode-runs.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

using namespace decode;

// Blocks that an SM of 9.0 has room for, in shared memory and registers; of int8 six of few heads.
template <int kTiles, PrecisionClass kPool>
constexpr int kBlocks = kPool == PrecisionClass::bf16 ? 3
                        : kTiles == 1                 ? 6
                                                      : 5;

template <int kHeadDim, int kTiles, PrecisionClass kPool>
__global__ void __launch_bounds__(kThreads, kBlocks<kTiles, kPool>) attendRuns(const Work work) {
  const DecodeAttention& problem = work.problem;
  const int group = work.group;
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kTiles, kPool>*>(keptByWarp(dynamicShared()));
  auto& exchange = shared.exchange;
  const int thread = static_cast<int>(threadIdx.x), warp = keptByWarp(thread / 32) % kWarps;
  const int ownLane = thread % 32;
  const int firstRun = static_cast<int>(blockIdx.x) * work.blockRuns, kvHead = static_cast<int>(blockIdx.y),
            sequence = static_cast<int>(blockIdx.z);
  letNextKernelBegin();
  const PageFormat& format = problem.tables.format;
  const std::int64_t row = problem.rows[sequence];
  const std::uint64_t* entries =
      problem.tables.entries + problem.tables.slots[sequence] * problem.tables.slotStride;
  const Seen seen = seenBy(problem, problem.contexts[sequence]);
  const int blockBegin = firstRun * kRunTokens;
  const int begin = max(seen.begin, blockBegin),
            end = min(seen.end, blockBegin + work.blockRuns * kRunTokens);
  if (begin >= end) return;

  // Entries of the pages, one a lane; 0 where nothing is seen.
  const int ownPage = firstRun * kRunPages + ownLane;
  const bool ownSeen = ownPage >= begin / kPageTokens && ownPage * kPageTokens < end;
  const std::uint64_t ownEntry = ownSeen ? entries[ownPage] : 0;
  const PageClasses classes(ownEntry, ownPage * kPageTokens >= begin && (ownPage + 1) * kPageTokens <= end);
  // Begins to bring a page, if it is there.
  const auto bring = [&](int page, std::uint32_t bit, int lane, auto isKeys) {
    const std::uint64_t entry = __shfl_sync(kWholeWarp, ownEntry, page);
    if (classes.isSeen(bit)) {
      classes.template withTile<kHeadDim, isKeys>(bit, [&](auto tile) {
        tile.template copy<32>(isKeys ? shared.keys[warp] : shared.values[warp],
                               PageTables::pageOf(entry) + kvHead * tile.kHeadBytes, lane);
      });
    }
    endCopyGroup();
  };
  const std::true_type keys;
  const std::false_type values;
  const int firstRound = (begin - blockBegin) / kRoundTokens;
  int endRound = (end - blockBegin + kRoundTokens - 1) / kRoundTokens;
  // Rounds of which nothing is seen leave every sum as it is.
  while (problem.runQueries && endRound - 1 > firstRound &&
         !classes.isAnySeenFrom(kRoundPages * (endRound - 1))) {
    --endRound;
  }
  // The warp's own page of a round, and the first of all.
  int own = kRoundPages * firstRound + warp;
  std::uint32_t ownBit = classes.bitOf(own), firstBit = classes.bitOf(kRoundPages * firstRound);
  bring(own, ownBit, ownLane, keys);
  bring(own, ownBit, ownLane, values);

  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  const bf16* queries =
      (problem.runQueries
           ? problem.runQueries +
                 (static_cast<std::int64_t>(sequence) * work.runs + firstRun) * problem.heads * kHeadDim
           : problem.qkv + row * cols) +
      static_cast<std::int64_t>(kvHead) * group * kHeadDim;
  // All warps have the same operands of the queries, from shared memory: they are too many for registers.
  const auto operandsOf = [&](int lane) -> auto& {
    return shared.columns[kTiles == 1 && group <= kFewHeads ? 0 : lane / 16];
  };
  for (int depth = warp; depth < kHeadDim / 16; depth += kWarps) {
    if (group <= kFewHeads && ownLane >= 16) break;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int head = 8 * tile + ownLane / 4;
      operandsOf(ownLane).queries[depth][tile][ownLane % 16] =
          head < group
              ? *reinterpret_cast<const uint2*>(queries + head * kHeadDim + 16 * depth + 4 * (ownLane % 4))
              : make_uint2(0, 0);
    }
  }
  __syncthreads();

  const int step = warp / 2, pageOfStep = warp % 2;  // of the own page, in a round
  const bool hasChannels = kHeadDim / 32 == kWarps || warp < kHeadDim / 32;

  // The bits of pages behind a block's last, which are not there, are shifted out.
#pragma unroll 1
  for (int round = firstRound; round < endRound;) {
    const int run = firstRun + round / kRunRounds, runBegin = round,
              runEnd = min(endRound, (round / kRunRounds + 1) * kRunRounds);
    RunSums<kTiles> sums;
    sums.begin();
#pragma unroll 1
    for (; round < runEnd; ++round, own += kRoundPages, ownBit <<= kRoundPages, firstBit <<= kRoundPages) {
      // Addresses in a page of each class would else be made of it in advance, for all classes.
      const int lane = computedAnew(ownLane) & 31, g = lane / 4, t = lane % 4;
      auto& operands = operandsOf(lane);
      const bool begins = round == runBegin, ends = round + 1 == runEnd;
      PageScores<kHeadDim, kTiles> scores;
      waitForCopies<1>();
      __syncwarp();
      if (classes.isSeen(ownBit)) {
        classes.template withTile<kHeadDim, true>(ownBit, [&](auto keys) {
          scores.score(keys, work.scale, shared.keys[warp], operands.queries, lane, g, t);
        });
      } else {
        scores.scoreNothing();
      }
      __syncwarp();
      bring(own + kRoundPages, ownBit << kRoundPages, lane, keys);

      if (!classes.isWhole(ownBit)) {
        const int firstToken = blockBegin + own * kPageTokens;
        const bool given = classes.isSeen(ownBit);
        scores.hide([&](int m, int i) {
          const int token = firstToken + 4 * g + 2 * m + i;
          return given && token >= begin && token < end;
        });
      }
      const float highest = scores.highest(lane);
      if (lane < 8 * kTiles) {
        reinterpret_cast<float*>(&exchange.highest[scores.columnOf(lane)])[warp] = highest;
      }
      __syncthreads();

      float factors[kRoundSteps][kTiles][2];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float4 ofPages = exchange.highest[8 * tile + 2 * t + i];
          factors[0][tile][i] = sums.raise(tile, i, fmaxf(ofPages.x, ofPages.y));
          const float afterFirst = sums.base(tile, i);
          factors[1][tile][i] = sums.raise(tile, i, fmaxf(ofPages.z, ofPages.w));
          scores.weigh(tile, i, step == 0 ? afterFirst : sums.base(tile, i));
        }
      }
      float4 ofPage[kTiles];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) ofPage[tile] = scores.classesOf(tile);
      // What the classes' sums were up to the step before comes from the warps that had it.
      const auto addClasses = [&] {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const float first = step == 0 ? factors[0][tile][0] : factors[1][tile][0],
                      second = step == 0 ? factors[0][tile][1] : factors[1][tile][1];
          float4& ofClasses = exchange.classes[pageOfStep][tile][lane];
          const float4 before = step == 0 && begins ? float4{0, 0, 0, 0} : ofClasses;
          ofClasses = {
              __fmaf_rn(before.x, first, ofPage[tile].x), __fmaf_rn(before.y, second, ofPage[tile].y),
              __fmaf_rn(before.z, first, ofPage[tile].z), __fmaf_rn(before.w, second, ofPage[tile].w)};
        }
      };
      if (step == 0) addClasses();
      waitForCopies<1>();
      const auto giveWeights = [&] {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile)
          operands.weights[warp][tile][lane % 16] = scores.weights(tile);
      };
      if (classes.isInt8(ownBit)) {
        __syncwarp();
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          scores.scale(
              m, PageTile<kHeadDim, false, PrecisionClass::int8>::loadScales(shared.values[warp], m, g));
        }
        giveWeights();
      } else {
        giveWeights();
      }
      __syncthreads();

      if (step == 1) addClasses();
      const auto addValues = [&](auto values, int page) {
        sums.add(values, shared.values[page], operands.weights[page], warp, lane, g, t);
      };
      if (hasChannels && classes.areAlike(firstBit)) {
        classes.template withTile<kHeadDim, false>(firstBit, [&](auto values) {
#pragma unroll
          for (int page = 0; page < kRoundPages; ++page) {
            if (page % 2 == 0) sums.rescale(factors[page / 2]);
            addValues(values, page);
          }
        });
      } else if (hasChannels) {
#pragma unroll
        for (int s = 0; s < kRoundSteps; ++s) {
          sums.rescale(factors[s]);
#pragma unroll 1
          for (int page = 2 * s; page < 2 * s + 2; ++page) {
            const std::uint32_t bit = firstBit << page;
            if (!classes.isSeen(bit)) continue;
            classes.template withTile<kHeadDim, false>(bit, [&](auto values) { addValues(values, page); });
          }
        }
      }
      if (ends && step == 1) {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const float4 own = exchange.classes[pageOfStep][tile][lane];
          const float all[2][2] = {{overClasses(own.x), overClasses(own.y)},
                                   {overClasses(own.z), overClasses(own.w)}};
          if (g == 0) {
#pragma unroll
            for (int m = 0; m < 2; ++m) {
              float* sums = exchange.sums[2 * pageOfStep + m] + 8 * tile + 2 * t;
              sums[0] = all[m][0], sums[1] = all[m][1];
            }
          }
        }
      }
      __syncthreads();
      if (round + 1 < endRound) bring(own + kRoundPages, ownBit << kRoundPages, lane, values);
    }
    const bool onlyRun = seen.runs() == 1;
    const int lane = computedAnew(ownLane) & 31, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int query = 8 * tile + 2 * t + i, head = kvHead * group + query;
        if (query >= group || !hasChannels) continue;
        const auto& quarters = exchange.sums;
        const SoftmaxSums ofRun{sums.base(tile, i), overQuarters(quarters[0][query], quarters[1][query],
                                                                 quarters[2][query], quarters[3][query])};
        const float4 four = sums.out(tile, i);
        const int channel = 32 * warp + 4 * g;
        if (onlyRun) {
          *reinterpret_cast<uint2*>(problem.out + (row * problem.heads + head) * kHeadDim + channel) =
              outputOf(ofRun, four);
          continue;
        }
        float* part =
            problem.parts + ((static_cast<std::int64_t>(sequence) * problem.heads + head) * work.runs + run) *
                                partFloats(kHeadDim);
        *reinterpret_cast<float4*>(part + channel) = four;
        if (channel == 0) *reinterpret_cast<float2*>(part + kHeadDim) = {ofRun.base, ofRun.sum};
      }
    }
  }
}

// Taking several runs in turn spares a block its beginning and brings pages of the next run while it
// computes, where enough blocks are left for every SM to end at the same time.
int blockRunsOf(std::int64_t blocks) {
  constexpr std::int64_t kEnough = 8192;
  int runs = 1;
  while (2 * runs <= kBlockRuns && blocks >= 2 * runs * kEnough) runs *= 2;
  return runs;
}

template <int kHeadDim, PrecisionClass kPool>
void attend(const DecodeAttention& problem, int runs, Stream stream) {
  const PageFormat& format = problem.tables.format;
  const int blockRuns =
      problem.runQueries ? 1 : blockRunsOf(std::int64_t{runs} * format.kvHeads * problem.sequences);
  const dim3 grid(static_cast<unsigned>((runs + blockRuns - 1) / blockRuns),
                  static_cast<unsigned>(format.kvHeads), static_cast<unsigned>(problem.sequences));
  const Work work{problem, problem.heads / format.kvHeads, runs, blockRuns,
                  kLog2E / std::sqrt(static_cast<float>(kHeadDim))};
  if (work.group > 8) {
    launchShared("decodeAttention", attendRuns<kHeadDim, 2, kPool>, grid, kThreads,
                 Shared<kHeadDim, 2, kPool>::bytes(work.group), stream, work);
  } else {
    launchShared("decodeAttention", attendRuns<kHeadDim, 1, kPool>, grid, kThreads,
                 Shared<kHeadDim, 1, kPool>::bytes(work.group), stream, work);
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
  if (runs > 1) mergeDecodeRuns(problem, runs, stream);
}

}  // namespace tandem::cuda
