// One block for each tile and KV head: its rows are the query heads of the group of each token. Eight warps
// of 16 rows walk the pages on their own, in the order of attention-order.h.
//
// FLOP: 4 * headDim a pair of tokens and head, half of them on the diagonal unseen. Bytes: each warp reads
// every page that one of its rows sees, mostly from L2.

#include "cuda/prefill-attention.h"

#include <cmath>

#include "core/error.h"
#include "cuda/attention-warp.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kTileRows = 128;
constexpr int kTiles = 2;  // of eight rows, a warp
constexpr int kWarpRows = 8 * kTiles;
constexpr int kThreads = kTileRows / kWarpRows * 32;

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads) attendTile(const PrefillAttention problem, float scale) {
  using State = WarpAttention<kHeadDim, kTiles>;
  // Later tiles of a prompt see more, so they come first.
  const QueryTile tile = problem.tiles[gridDim.x - 1 - blockIdx.x];
  const int kvHead = static_cast<int>(blockIdx.y), warp = static_cast<int>(threadIdx.x) / 32,
            lane = static_cast<int>(threadIdx.x) % 32;
  const PageFormat& format = problem.tables.format;
  const int group = problem.heads / format.kvHeads, firstQuery = warp * kWarpRows;
  const int queries = min(tile.count * group - firstQuery, kWarpRows);
  if (queries <= 0) return;

  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  State state(lane, scale, [&](int i) {
    const int query = firstQuery + i;
    return i < queries ? problem.qkv + (tile.row + query / group) * cols +
                             static_cast<std::int64_t>(kvHead * group + query % group) * kHeadDim
                       : nullptr;
  });
  const auto seenBy = [&](int i) {
    const int position = tile.position + (firstQuery + i) / group;
    return Visible{problem.window > 0 ? max(0, position + 1 - problem.window) : 0, position + 1};
  };
  Visible seen[kTiles][2];
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) seen[t][i] = seenBy(min(state.queryOf(t, i), queries - 1));
  }
  const int begin = seenBy(0).begin, end = seenBy(queries - 1).end;

  SoftmaxSums totals[kTiles][2];
  float out[kTiles][2][State::kBlocks][4] = {};
  for (int run = begin / kRunTokens * kRunTokens; run < end; run += kRunTokens) {
    state.beginRun();
    const int runEnd = min(end, run + kRunTokens);
    for (int token = max(run, begin / kStepTokens * kStepTokens); token < runEnd; token += kStepTokens) {
      const auto entryOf = [&](int at) {
        return at < end && at + kPageTokens > begin ? problem.tables.entry(tile.sequence, at / kPageTokens)
                                                    : 0;
      };
      Visible visible[kTiles][2];
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int i = 0; i < 2; ++i) visible[t][i] = {seen[t][i].begin - token, seen[t][i].end - token};
      }
      state.step(format, kvHead, entryOf(token), entryOf(token + kPageTokens), visible);
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
      if (state.queryOf(t, i) >= queries) continue;
      const int query = firstQuery + state.queryOf(t, i);
      const Finish finish(totals[t][i]);
      bf16* head = problem.out + ((tile.row + query / group) * static_cast<std::int64_t>(problem.heads) +
                                  kvHead * group + query % group) *
                                     kHeadDim;
#pragma unroll
      for (int block = 0; block < State::kBlocks; ++block) {
        const float(&four)[4] = out[t][i][block];
        *reinterpret_cast<uint2*>(head + state.channelOf(block)) = make_uint2(
            packBf16(finish(four[0]), finish(four[1])), packBf16(finish(four[2]), finish(four[3])));
      }
    }
  }
}

template <int kHeadDim>
void attend(const PrefillAttention& problem, Stream stream) {
  const dim3 grid(static_cast<unsigned>(problem.tileCount),
                  static_cast<unsigned>(problem.tables.format.kvHeads));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  launch("prefillAttention", attendTile<kHeadDim>, grid, kThreads, stream, problem, scale);
}

}  // namespace

int prefillTileTokens(int heads, int kvHeads) { return kTileRows / (heads / kvHeads); }

void prefillAttention(const PrefillAttention& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(!isPacked(format.precision), "prefillAttention: pages are appended in bf16 or int8");
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "prefillAttention: heads must be a multiple of kvHeads");
  check(problem.heads / format.kvHeads <= kGroupMost,
        "prefillAttention supports up to 16 query heads for each KV head");
  if (problem.tileCount == 0) return;
  switch (format.headDim) {
    case 32:
      return attend<32>(problem, stream);
    case 64:
      return attend<64>(problem, stream);
    case 96:
      return attend<96>(problem, stream);
    case 128:
      return attend<128>(problem, stream);
    default:
      throw Error("prefillAttention supports head dimensions of 32, 64, 96 and 128, not " +
                  std::to_string(format.headDim));
  }
}

}  // namespace tandem::cuda
