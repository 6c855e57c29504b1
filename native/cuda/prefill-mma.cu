// One block for each tile and KV head: its rows are the query heads of the group of each token. Eight warps
// of 16 rows share the pages, which come through shared memory in steps of two.
//
// FLOP: 4 * headDim a pair of tokens and head. Bytes: a block reads every page that one of its rows sees,
// mostly from L2.

#include "cuda/prefill-kernels.h"

#include <cmath>

#include "cuda/attention-warp.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kTiles = 2;  // of eight rows, a warp
constexpr int kWarpRows = 8 * kTiles;
constexpr int kThreads = kPrefillRows / kWarpRows * 32;

constexpr int kStages = 2;

// Keys of a step's two pages, then their values.
template <int kHeadDim>
constexpr int kStageBytes = 4 * PageTile<kHeadDim, true, PrecisionClass::bf16>::kSlotBytes;

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads) attendTileByMma(const PrefillAttention problem, float scale) {
  using State = WarpAttention<kHeadDim, kTiles, QueryPlace::shared>;
  std::byte* stages = dynamicShared();
  // Later tiles of a prompt see more, so they come first.
  const QueryTile tile = problem.tiles[gridDim.x - 1 - blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int kvHead = static_cast<int>(blockIdx.y);
  const PageFormat& format = problem.tables.format;
  const int group = problem.heads / format.kvHeads, queries = tile.count * group,
            firstQuery = warp * kWarpRows;

  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  const auto queryOf = [&](int i) {
    const int query = firstQuery + i;
    return query < queries ? problem.qkv + (tile.row + query / group) * cols +
                                 static_cast<std::int64_t>(kvHead * group + query % group) * kHeadDim
                           : nullptr;
  };
  State state(
      lane, scale, queryOf,
      reinterpret_cast<uint2*>(stages + kStages * kStageBytes<kHeadDim> + warp * State::kSharedQueryBytes));
  const auto seenBy = [&](int query) {
    const int position = tile.position + min(query, queries - 1) / group;
    return Visible{problem.window > 0 ? max(0, position + 1 - problem.window) : 0, position + 1};
  };
  Visible seen[kTiles][2];
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) seen[t][i] = seenBy(firstQuery + state.queryOf(t, i));
  }
  const int begin = seenBy(0).begin, end = seenBy(queries - 1).end;
  const int warpBegin = seenBy(firstQuery).begin, warpEnd = seenBy(firstQuery + kWarpRows - 1).end;

  const auto entryOf = [&](int token) {
    return token < end && token + kPageTokens > begin
               ? problem.tables.entry(tile.sequence, token / kPageTokens)
               : 0;
  };
  const auto slotOf = [&](int token, int kind) {
    const int stage = token / kStepTokens % kStages;
    return stages + stage * kStageBytes<kHeadDim> + kind * (kStageBytes<kHeadDim> / 4);
  };
  const auto copy = [&](int token) {
    for (int page = 0; page < 2; ++page) {
      const std::uint64_t entry = entryOf(token + page * kPageTokens);
      if (entry == 0) continue;
      const PrecisionClass precision = PageTables::classOf(entry);
      const std::byte* head = PageTables::pageOf(entry) + format.in(precision).keys(kvHead);
      withTile<kHeadDim, true>(precision, [&](auto keys) {
        keys.template copy<kThreads>(slotOf(token, page), head, threadIdx.x);
      });
      withTile<kHeadDim, false>(precision, [&](auto values) {
        values.template copy<kThreads>(slotOf(token, 2 + page), head, threadIdx.x);
      });
    }
    endCopyGroup();
  };
  const int first = begin / kStepTokens * kStepTokens;
  for (int i = 0; i < kStages; ++i) copy(first + i * kStepTokens);

  // Written out: nvcc 13.0 leaves elements of an array of arrays without their members' initialisers.
  SoftmaxSums totals[kTiles][2];
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) totals[t][i] = SoftmaxSums{kNothingSeen, 0};
  }
  float out[kTiles][2][State::kBlocks][4] = {};
  for (int run = begin / kRunTokens * kRunTokens; run < end; run += kRunTokens) {
    state.beginRun();
    const int runEnd = min(end, run + kRunTokens);
    for (int token = max(run, first); token < runEnd; token += kStepTokens) {
      waitForCopies<kStages - 1>();
      __syncthreads();
      if (token < warpEnd && token + kStepTokens > warpBegin) {
        state.beginStep({entryOf(token) != 0, entryOf(token + kPageTokens) != 0});
#pragma unroll
        for (int page = 0; page < 2; ++page) {
          const std::uint64_t entry = entryOf(token + page * kPageTokens);
          if (entry) state.score(page, PageTables::classOf(entry), slotOf(token, page));
        }
        Visible visible[kTiles][2];
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
#pragma unroll
          for (int i = 0; i < 2; ++i) visible[t][i] = {seen[t][i].begin - token, seen[t][i].end - token};
        }
        state.weigh(visible);
#pragma unroll
        for (int page = 0; page < 2; ++page) {
          const std::uint64_t entry = entryOf(token + page * kPageTokens);
          if (entry) state.addValues(page, PageTables::classOf(entry), slotOf(token, 2 + page));
        }
      }
      __syncthreads();
      copy(token + kStages * kStepTokens);
    }
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const MergeFactors factors = MergeFactors::merge(totals[t][i], state.endRun(t, i));
#pragma unroll
        for (int block = 0; block < State::kBlocks; ++block) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            out[t][i][block][c] = factors.combine(out[t][i][block][c], state.out(t, i, block, c));
          }
        }
      }
    }
  }

#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int query = firstQuery + state.queryOf(t, i);
      if (query >= queries) continue;
      const float inverse = 1 / totals[t][i].sum;
      bf16* head = problem.out + ((tile.row + query / group) * static_cast<std::int64_t>(problem.heads) +
                                  kvHead * group + query % group) *
                                     kHeadDim;
#pragma unroll
      for (int block = 0; block < State::kBlocks; ++block) {
        const float(&four)[4] = out[t][i][block];
        *reinterpret_cast<uint2*>(head + state.channelOf(block)) = make_uint2(
            packBf16(four[0] * inverse, four[1] * inverse), packBf16(four[2] * inverse, four[3] * inverse));
      }
    }
  }
}

template <int kHeadDim>
void attend(const PrefillAttention& problem, Stream stream) {
  const dim3 grid(static_cast<unsigned>(problem.tileCount),
                  static_cast<unsigned>(problem.tables.format.kvHeads));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  constexpr int kQueryBytes = kPrefillRows * kHeadDim * sizeof(bf16);
  launchShared("prefillAttention", attendTileByMma<kHeadDim>, grid, kThreads,
               kStages * kStageBytes<kHeadDim> + kQueryBytes, stream, problem, scale);
}

}  // namespace

void prefillByMma(const PrefillAttention& problem, Stream stream) {
  withHeadDim(problem.tables.format.headDim, "prefillAttention",
              [&](auto headDim) { attend<headDim>(problem, stream); });
}

}  // namespace tandem::cuda
