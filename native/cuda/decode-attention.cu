// One block for each sequence, KV head and run of 256 tokens, or some runs in turn. The query heads of a
// group are the columns of its tensor-core tiles, so they share every load of a page. Its four warps take a
// run in two rounds of four pages: each brings and scores a page of its own, then has 32 channels of the
// output over all four. In between they exchange the highest scores and the probabilities. A page is brought
// as soon as the one before has left its place. Runs are merged by their log-sum-exp in a second kernel,
// where there are several.
//
// Bytes: each page once (bf16 4 * headDim a token and KV head, int8 2 * headDim + 8), and 8 * headDim for
// each head and run of a part that is written and read again: 3% of a bf16 run where a group has four heads.
// FLOP: 4 * headDim a token and head, in tiles of 8 or 16 heads. Codes are bound by instructions, of which a
// pair takes 4 in int8 (a byte permutation, two masks, a difference) and 3.5 to 4 in int4 and int2 (a mask,
// two multiply-adds, half a shift or a whole one): a warp does little else. Blocks of an SM are at different
// points, so that some wait for memory while others compute: as many as there is room for, three where pages
// are bf16 (64 KB a round for 128 channels), five of int8.

#include "cuda/decode-attention.h"

#include <cmath>
#include <type_traits>

#include "cuda/attention-warp.h"
#include "cuda/kernel.h"
#include "cuda/rows-map.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kRunPages = kRunTokens / kPageTokens;

// Runs that a block takes one after another at most: the entries of their pages are one a lane.
constexpr int kBlockRuns = 32 / kRunPages;

// A page for each warp, which are two steps.
constexpr int kRoundPages = kWarps;
constexpr int kRoundTokens = kRoundPages * kPageTokens;
constexpr int kRoundSteps = kRoundTokens / kStepTokens, kRunRounds = kRunTokens / kRoundTokens;
static_assert(kRoundSteps == 2 && kRunTokens % kRoundTokens == 0 && kQuarters == 4);

// What a run leaves of a head: out, not yet divided by its sum, then its sums.
__device__ constexpr std::int64_t partFloats(int headDim) { return headDim + 4; }

struct Seen {
  int begin, end;  // tokens
  __device__ int firstRun() const { return begin / kRunTokens; }
  __device__ int runs() const { return (end - 1) / kRunTokens - firstRun() + 1; }
};

__device__ Seen seenBy(const DecodeAttention& problem, int context) {
  return {problem.window > 0 && context > problem.window ? context - problem.window : 0, context};
}

template <int kTiles>
struct Exchange {
  float highest[kWarps][8 * kTiles];          // of each page's scores
  float2 classes[2][2][kTiles][32];           // sums of a step's classes by page, quarter and lane
  float sums[kQuarters][8 * kTiles];          // of all classes of a quarter
  uint2 weights[kRoundPages][2][kTiles][32];  // by page, quarter and lane
};

template <int kHeadDim, int kTiles, PrecisionClass kPool>
struct Shared {
  std::byte keys[kWarps][PageTile<kHeadDim, true, kPool>::kSlotBytes];
  std::byte values[kWarps][PageTile<kHeadDim, false, kPool>::kSlotBytes];
  uint2 queries[kHeadDim / 16][kTiles][32];  // by depth, tile and lane
  Exchange<kTiles> exchange;
};

// Which classes a block's pages have, and which are seen at all: a bit for each page.
class PageClasses {
 public:
  // Of a lane's page. The whole warp together.
  __device__ explicit PageClasses(std::uint64_t entry)
      : seen_(__ballot_sync(kWholeWarp, entry != 0)),
        low_(__ballot_sync(kWholeWarp, entry & 1)),
        high_(__ballot_sync(kWholeWarp, entry & 2)) {}

  __device__ bool isSeen(int page) const { return seen_ >> page & 1; }
  __device__ bool isAnySeenFrom(int page) const { return seen_ >> page != 0; }
  __device__ PrecisionClass of(int page) const {
    return static_cast<PrecisionClass>((low_ >> page & 1) | (high_ >> page & 1) << 1);
  }
  // Whether a round's pages from `first` on are all seen and of the same class.
  __device__ bool areAlike(int first) const {
    constexpr std::uint32_t kAll = (1 << kRoundPages) - 1;
    const std::uint32_t low = low_ >> first & kAll, high = high_ >> first & kAll;
    return (seen_ >> first & kAll) == kAll && (low == 0 || low == kAll) && (high == 0 || high == kAll);
  }

 private:
  std::uint32_t seen_, low_, high_;
};

struct Work {
  DecodeAttention problem;
  int group;      // heads of a KV head
  int runs;       // of the longest context
  int blockRuns;  // of a block
  float scale;
};

// Blocks that an SM has room for, in shared memory or registers.
template <int kTiles, PrecisionClass kPool>
constexpr int kBlocks = kPool == PrecisionClass::bf16 ? 3
                        : kTiles == 1                 ? 5
                                                      : 4;

template <int kHeadDim, int kTiles, PrecisionClass kPool>
__global__ void __launch_bounds__(kThreads, kBlocks<kTiles, kPool>) attendRuns(const Work work) {
  const DecodeAttention& problem = work.problem;
  const int group = work.group;
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kTiles, kPool>*>(dynamicShared());
  auto& exchange = shared.exchange;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
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
  const PageClasses classes(ownEntry);
  // Begins to bring the warp's own page of a round.
  const auto bring = [&](int round, int lane, auto isKeys) {
    const int page = kRoundPages * round + warp;
    const std::uint64_t entry = page < 32 ? __shfl_sync(kWholeWarp, ownEntry, page) : 0;
    if (entry != 0) {
      withTile<kHeadDim, isKeys>(PageTables::classOf(entry), [&](auto tile) {
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
  bring(firstRound, ownLane, keys);
  bring(firstRound, ownLane, values);

  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  const bf16* queries =
      (problem.runQueries
           ? problem.runQueries +
                 (static_cast<std::int64_t>(sequence) * work.runs + firstRun) * problem.heads * kHeadDim
           : problem.qkv + row * cols) +
      static_cast<std::int64_t>(kvHead) * group * kHeadDim;
  // All warps have the same operands of the queries, from shared memory: they are too many for registers.
  for (int depth = warp; depth < kHeadDim / 16; depth += kWarps) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int head = 8 * tile + ownLane / 4;
      shared.queries[depth][tile][ownLane] =
          head < group
              ? *reinterpret_cast<const uint2*>(queries + head * kHeadDim + 16 * depth + 4 * (ownLane % 4))
              : make_uint2(0, 0);
    }
  }
  __syncthreads();

  const int step = warp / 2, pageOfStep = warp % 2;  // of the own page, in a round
  const bool hasChannels = kHeadDim / 32 == kWarps || warp < kHeadDim / 32;
  float highest[kTiles][2], out[2][kTiles][4];

#pragma unroll 1
  for (int round = firstRound; round < endRound; ++round) {
    // Addresses in a page of each class would else be made of it in advance, for all classes.
    const int lane = computedAnew(ownLane) & 31, g = lane / 4, t = lane % 4;
    const bool begins = round == firstRound || round % kRunRounds == 0,
               ends = round + 1 == endRound || (round + 1) % kRunRounds == 0;
    if (begins) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 2; ++i) highest[tile][i] = kNothingSeen;
#pragma unroll
        for (int i = 0; i < 4; ++i) out[0][tile][i] = out[1][tile][i] = 0;
      }
    }
    // Products, then probabilities, of the own page's quarters.
    float p[kTiles][2][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p[tile][0][i] = p[tile][1][i] = 0;
    }
    float2 scales[2] = {{work.scale, work.scale}, {work.scale, work.scale}};
    const int own = kRoundPages * round + warp;
    waitForCopies<1>();
    __syncwarp();
    if (classes.isSeen(own)) {
      withTile<kHeadDim, true>(classes.of(own), [&](auto keys) {
        const std::byte* slot = shared.keys[warp];
#pragma unroll
        for (int depth = 0; depth < kHeadDim / 16; ++depth) {
          std::uint32_t low[4], high[4];
          keys.loadKeys(low, high, slot, depth, g, t);
          uint2 q[kTiles];
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) q[tile] = shared.queries[depth][tile][lane];
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const std::uint32_t rows[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) {
              multiplyTiles(p[tile][m], rows, q[tile].x, q[tile].y);
            }
          }
        }
        if constexpr (keys.kScaledTokens) {
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const float2 ofTokens = keys.loadScales(slot, m, g);
            scales[m] = {__fmul_rn(work.scale, ofTokens.x), __fmul_rn(work.scale, ofTokens.y)};
          }
        }
      });
    }
    __syncwarp();
    bring(round + 1, lane, keys);

    const int firstToken = blockBegin + own * kPageTokens;
    const bool given = classes.isSeen(own);
    const bool whole = given && firstToken >= begin && firstToken + kPageTokens <= end;
    const auto isSeen = [&](int m, int i) {
      const int token = firstToken + 4 * g + 2 * m + i;
      return given && token >= begin && token < end;
    };
    if (!whole) {
      // What is not seen is lower than every score, and has the probability zero.
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if (!isSeen(m, 0)) scales[m].x = 1;
        if (!isSeen(m, 1)) scales[m].y = 1;
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (!isSeen(m, i / 2)) p[tile][m][i] = -INFINITY;
          }
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float most = kNothingSeen;
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          most = fmaxf(most, __fmul_rn(p[tile][m][i], scales[m].x));
          most = fmaxf(most, __fmul_rn(p[tile][m][2 + i], scales[m].y));
        }
        most = highestOfClasses(most);
        if (g == 0) exchange.highest[warp][8 * tile + 2 * t + i] = most;
      }
    }
    __syncthreads();

    float factors[kRoundSteps][kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = 8 * tile + 2 * t + i;
        float ofOwn = 0;
#pragma unroll
        for (int s = 0; s < kRoundSteps; ++s) {
          const float before = highest[tile][i];
          highest[tile][i] =
              fmaxf(before, fmaxf(exchange.highest[2 * s][column], exchange.highest[2 * s + 1][column]));
          factors[s][tile][i] = exp2Fast(before - highest[tile][i]);
          if (s == step) ofOwn = highest[tile][i];
        }
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          p[tile][m][i] = probability(p[tile][m][i], scales[m].x, ofOwn);
          p[tile][m][2 + i] = probability(p[tile][m][2 + i], scales[m].y, ofOwn);
        }
      }
    }
    float2 ofPage[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        ofPage[tile][m] = {p[tile][m][0] + p[tile][m][2], p[tile][m][1] + p[tile][m][3]};
      }
    }
    // What the classes' sums were up to the step before comes from the warps that had it.
    const auto addClasses = [&] {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const float first = step == 0 ? factors[0][tile][0] : factors[1][tile][0],
                    second = step == 0 ? factors[0][tile][1] : factors[1][tile][1];
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          float2& sums = exchange.classes[pageOfStep][m][tile][lane];
          const float2 before = step == 0 && begins ? float2{0, 0} : sums;
          sums = {__fmaf_rn(before.x, first, ofPage[tile][m].x),
                  __fmaf_rn(before.y, second, ofPage[tile][m].y)};
        }
      }
    };
    if (step == 0) addClasses();
    waitForCopies<1>();
    if (classes.isSeen(own) && classes.of(own) == PrecisionClass::int8) {
      __syncwarp();
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const float2 steps =
            PageTile<kHeadDim, false, PrecisionClass::int8>::loadScales(shared.values[warp], m, g);
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
          for (int i = 0; i < 4; ++i) p[tile][m][i] *= i < 2 ? steps.x : steps.y;
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int m = 0; m < 2; ++m) exchange.weights[warp][m][tile][lane] = weightsOf(p[tile][m]);
    }
    __syncthreads();

    if (step == 1) addClasses();
    const auto rescale = [&](const float(&by)[kTiles][2]) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          out[0][tile][i] = __fmul_rn(out[0][tile][i], by[tile][i % 2]);
          out[1][tile][i] = __fmul_rn(out[1][tile][i], by[tile][i % 2]);
        }
      }
    };
    const auto addValues = [&](auto values, int page) {
      std::uint32_t words[4][4];
      values.loadValues(words, shared.values[page], warp, g, t);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t(&low)[4] = words[m], (&high)[4] = words[2 + m];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const uint2 weights = exchange.weights[page][m][tile][lane];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const std::uint32_t rows[4] = {low[2 * i], low[2 * i + 1], high[2 * i], high[2 * i + 1]};
            multiplyTiles(out[i][tile], rows, weights.x, weights.y);
          }
        }
      }
    };
    const int firstPage = kRoundPages * round;
    if (hasChannels && classes.areAlike(firstPage)) {
      withTile<kHeadDim, false>(classes.of(firstPage), [&](auto values) {
#pragma unroll
        for (int page = 0; page < kRoundPages; ++page) {
          if (page % 2 == 0) rescale(factors[page / 2]);
          addValues(values, page);
        }
      });
    } else if (hasChannels) {
#pragma unroll
      for (int s = 0; s < kRoundSteps; ++s) {
        rescale(factors[s]);
#pragma unroll 1
        for (int page = 2 * s; page < 2 * s + 2; ++page) {
          if (!classes.isSeen(firstPage + page)) continue;
          withTile<kHeadDim, false>(classes.of(firstPage + page),
                                    [&](auto values) { addValues(values, page); });
        }
      }
    }
    if (ends && step == 1) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const float2 own = exchange.classes[pageOfStep][m][tile][lane];
          const float2 all = {overClasses(own.x), overClasses(own.y)};
          if (g == 0) {
            exchange.sums[2 * pageOfStep + m][8 * tile + 2 * t] = all.x;
            exchange.sums[2 * pageOfStep + m][8 * tile + 2 * t + 1] = all.y;
          }
        }
      }
    }
    __syncthreads();
    if (round + 1 < endRound) bring(round + 1, lane, values);
    if (!ends || !hasChannels) continue;
    const int run = firstRun + round / kRunRounds;
    const bool onlyRun = seen.runs() == 1;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int query = 8 * tile + 2 * t + i, head = kvHead * group + query;
        if (query >= group) continue;
        const auto& sums = exchange.sums;
        const SoftmaxSums ofRun{highest[tile][i],
                                overQuarters(sums[0][query], sums[1][query], sums[2][query], sums[3][query])};
        float4 four = {out[0][tile][i], out[0][tile][2 + i], out[1][tile][i], out[1][tile][2 + i]};
        const int channel = 32 * warp + 4 * g;
        if (onlyRun) {
          SoftmaxSums total;
          const MergeFactors factors = MergeFactors::merge(total, ofRun);
          const float inverse = 1 / total.sum;
          const auto finish = [&](float value) { return factors.combine(0, value) * inverse; };
          *reinterpret_cast<uint2*>(problem.out + (row * problem.heads + head) * kHeadDim + channel) =
              make_uint2(packBf16(finish(four.x), finish(four.y)), packBf16(finish(four.z), finish(four.w)));
          continue;
        }
        float* part =
            problem.parts + ((static_cast<std::int64_t>(sequence) * problem.heads + head) * work.runs + run) *
                                partFloats(kHeadDim);
        *reinterpret_cast<float4*>(part + channel) = four;
        if (channel == 0) *reinterpret_cast<float2*>(part + kHeadDim) = {ofRun.highest, ofRun.sum};
      }
    }
  }
}

// A block is a head of a sequence, a thread a channel. The highest score of all runs up to each is the same
// in every order, so that a lane of each warp finds a run's factors; what remains a chain is one step a run.
__global__ void mergeRuns(const DecodeAttention problem, int runs) {
  constexpr int kAtOnce = 32;
  const int sequence = static_cast<int>(blockIdx.y), headDim = problem.tables.format.headDim;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = problem.rows[sequence];
  const Seen seen = seenBy(problem, problem.contexts[sequence]);
  if (seen.runs() == 1) return;
  waitForKernelsBefore();
  const std::int64_t head = static_cast<std::int64_t>(sequence) * problem.heads + blockIdx.x;
  const float* parts = problem.parts + (head * runs + seen.firstRun()) * partFloats(headDim);
  float highest = kNothingSeen, sum = 0, out = 0;
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
    float most = fmaxf(highest, own.x);
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) most = fmaxf(most, __shfl_up_sync(kWholeWarp, most, lanes));
    const float up = __shfl_up_sync(kWholeWarp, most, 1);
    const MergeFactors factors = MergeFactors::of(lane == 0 ? highest : up, own.x, most);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (i >= count) break;
      const MergeFactors ofRun{__shfl_sync(kWholeWarp, factors.before, i),
                               __shfl_sync(kWholeWarp, factors.later, i)};
      out = ofRun.combine(out, of[i]);
      sum = ofRun.combine(sum, __shfl_sync(kWholeWarp, own.y, i));
    }
    highest = __shfl_sync(kWholeWarp, most, 31);
  }
  problem.out[(row * problem.heads + blockIdx.x) * headDim + threadIdx.x] = roundToBf16(out * (1 / sum));
}

int runsOf(int mostTokens) { return (mostTokens + kRunTokens - 1) / kRunTokens; }

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
                 sizeof(Shared<kHeadDim, 2, kPool>), stream, work);
  } else {
    launchShared("decodeAttention", attendRuns<kHeadDim, 1, kPool>, grid, kThreads,
                 sizeof(Shared<kHeadDim, 1, kPool>), stream, work);
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
    // Where that can be, it begins with the blocks of the first that are last.
    static const bool early = hasWgmma();
    const auto threads = static_cast<unsigned>(format.headDim);
    early ? launchEarly("decodeAttention's merge", mergeRuns, heads, threads, 0, stream, problem, runs)
          : launch("decodeAttention's merge", mergeRuns, heads, threads, stream, problem, runs);
  }
}

}  // namespace tandem::cuda
