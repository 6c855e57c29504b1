#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/bf16-pair.h"
#include "cuda/prefill-wgmma-block.h"
#include "cuda/wgmma.h"

#if defined(TANDEM_WGMMA)

namespace tandem::cuda::wgmma_prefill {

// 64 rows in a warpgroup. With g = lane / 4 and t = lane % 4 a lane has rows g and g + 8 of its warp's 16.
template <int kHeadDim>
class Attender {
 public:
  // Leaves the queries in shared memory; all that attend must have done so before one runs.
  __device__ Attender(const Block<kHeadDim>& block, float scale)
      : block_(block),
        scale_(scale),
        lane_(static_cast<int>(threadIdx.x) % 32),
        group_(__shfl_sync(kWholeWarp, static_cast<int>(threadIdx.x) / 128, 0)) {
    const PageFormat& format = block.problem.tables.format;
    const std::int64_t cols = std::int64_t{block.problem.heads + 2 * format.kvHeads} * kHeadDim;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = queryOf(half);
      const bf16* head = block.problem.qkv + block.rowOf(query) * cols +
                         std::int64_t{block.kvHead * block.group + query % block.group} * kHeadDim;
#pragma unroll
      for (int depth = 0; depth < kHeadDim / 16; ++depth) {
        const uint2 words = query < block.queries
                                ? *reinterpret_cast<const uint2*>(head + 16 * depth + 4 * (lane_ % 4))
                                : make_uint2(0, 0);
        std::byte* row = block.memory.queries() + depth / 4 * Layout<kHeadDim>::kQueryHalfBytes + 128 * query;
        const int chunk = 2 * (depth % 4), place = 4 * (lane_ % 4);
        *reinterpret_cast<std::uint32_t*>(row + 16 * (chunk ^ query % 8) + place) = words.x;
        *reinterpret_cast<std::uint32_t*>(row + 16 * ((chunk + 1) ^ query % 8) + place) = words.y;
      }
    }
    // The first run is merged with nothing as the others are with what was before them.
#pragma unroll
    for (int index = 0; index < kHeadDim / 8; ++index) block.memory.total(index) = float4{};
    publishToTensorCores();
    const int firstOfWarp = static_cast<int>(threadIdx.x) / 32 * 16;
    seenByAll_ = {block.seenBy(firstOfWarp + 15).begin, block.seenBy(firstOfWarp).end};
  }

  // The scores of a step are multiplied together with the values of the step before, and those still are
  // while the scores are weighed.
  __device__ void run() {
    const Seen seen = block_.seen();
    int token = seen.begin / kStepTokens * kStepTokens;
    bool beginsRun = true;
    RingTurn turn;
    beginScores(turn);
    waitForProducts<0>();
    settle(p_);
    beginRun();
    weigh(token, turn, true);
#pragma unroll 1
    for (token += kStepTokens; token < seen.end; token += kStepTokens) {
      const int before = turn.place;
      turn.advance(kStages);
      beginScores(turn);
      addValues(before, !beginsRun);
      beginsRun = token % kRunTokens == 0;
      waitForProducts<1>();
      settle(p_);
      if (beginsRun) {
        finishValues();
        endRun(false);
        beginRun();
      }
      weigh(token, turn, beginsRun);
      __syncwarp();  // all lanes have read the stage's scales
      if (lane_ == 0) arrive(block_.memory.barriers().used[before]);
    }
    beginProducts();
    addValues(turn.place, !beginsRun);
    finishValues();
    endRun(true);
  }

 private:
  __device__ int queryOf(int half) const {
    return static_cast<int>(threadIdx.x) / 32 * 16 + lane_ / 4 + 8 * half;
  }

  __device__ void beginRun() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      base_[half] = kNothingSeen;
#pragma unroll
      for (int quarter = 0; quarter < kQuarters; ++quarter)
        sum_[half][quarter][0] = sum_[half][quarter][1] = 0;
    }
  }

  __device__ void beginScores(const RingTurn& turn) {
    waitFor(block_.memory.barriers().brought[turn.place], turn.parity);
    // Long before it is asked for. Both pages' at once.
    traits_ = *reinterpret_cast<const std::uint32_t*>(block_.memory.scales(turn.place).traits);
    settle(p_);
    settle(out_);
    beginProducts();
    using Layout = Layout<kHeadDim>;
    // Eight operands are more than there are registers for.
    const auto queries = operandAt(block_.memory.queries() + 64 * 128 * computedAnew(group_), 0);
    const auto keys = operandAt(block_.memory.keys(turn.place), 0);
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      const int half = depth / 4, bytes = depth % 4 * 32;
      multiply(p_, operandBehind(queries, half * Layout::kQueryHalfBytes + bytes),
               operandBehind(keys, half * Layout::kHalfBytes + bytes), depth > 0);
    }
    endProductGroup();
  }

  // To what the run's steps before have left, if there are any.
  __device__ void addValues(int stage, bool toOthers) {
    const auto values = operandAt(block_.memory.values(stage), 0);
#pragma unroll
    for (int depth = 0; depth < 4; ++depth)
      multiply(out_, weights_[depth], operandBehind(values, 32 * depth), depth > 0 || toOthers);
    endProductGroup();
  }

  __device__ void finishValues() {
    waitForProducts<0>();
    settle(out_);
  }

  // Makes weights of the scores, and has what the run's steps before have left follow them.
  __device__ void weigh(int token, const RingTurn& turn, bool beginsRun) {
    const TokenScales& scales = block_.memory.scales(turn.place);
    float factors[2];
    const bool seenByAll = token >= seenByAll_.begin && token + kStepTokens <= seenByAll_.end;
    const auto scaleOf = [&](int j, int i) { return scales.keys[8 * j + 2 * (lane_ % 4) + i % 2]; };
    // Most steps are of one kind, and seen by all: without a branch the compiler has one thing wait while it
    // does another.
    if (seenByAll && traits_ == 0) {
      weighSeen(factors, scale_, [](int, int) { return true; });
    } else if (seenByAll && traits_ == (kScaled | kScaled << 16)) {
      weighSeen(factors, scaleOf, [](int, int) { return true; });
    } else {
      // Found anew: through the loop they would be registers too many.
      const Seen seen[2] = {block_.seenBy(queryOf(0)), block_.seenBy(queryOf(1))};
      weighSeen(
          factors,
          [&](int j, int i) {
            const float scaled = scaleOf(j, i);
            return isScaled(j / 4) ? scaled : scale_;
          },
          [&](int j, int i) {
            const int at = token + 32 * (j / 4) + 4 * (2 * (lane_ % 4) + i % 2) + j % 4;
            return isThere(j / 4) && at >= seen[i / 2].begin && at < seen[i / 2].end;
          });
    }
    settle(p_);
    finishValues();
    // Bases hardly ever rise after a run's first step, and to that nothing has been added.
    if (!beginsRun && __any_sync(kWholeWarp, factors[0] != 1 || factors[1] != 1)) {
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out_[j][i] = __fmul_rn(out_[j][i], factors[i / 2]);
      }
    }
    packWeights(scales);
  }

  template <class ScaleOf>
  __device__ static float scaleAt(const ScaleOf& scaleOf, int j, int i) {
    if constexpr (std::is_same_v<ScaleOf, float>) {
      return scaleOf;
    } else {
      return scaleOf(j, i);
    }
  }

  // Of p_[j][i] scaleOf(j, i) is the scale, or all have one; isSeen(j, i): whether its row sees its token.
  template <class ScaleOf, class IsSeen>
  __device__ void weighSeen(float (&factors)[2], const ScaleOf& scaleOf, const IsSeen& isSeen) {
    constexpr bool kOneScale = std::is_same_v<ScaleOf, float>;
    // Even and odd columns apart: chains half as long.
    float highest[2][2];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        // With one scale the highest product has the highest score.
        const float score = !isSeen(j, i) ? kNothingSeen
                            : kOneScale   ? p_[j][i]
                                          : __fmul_rn(p_[j][i], scaleAt(scaleOf, j, i));
        float& top = highest[i / 2][i % 2];
        top = j == 0 ? score : fmaxf(top, score);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = fmaxf(highest[half][0], highest[half][1]);
      if constexpr (kOneScale) top = __fmul_rn(top, scaleOf);
      top = fmaxf(top, __shfl_xor_sync(kWholeWarp, top, 1));
      top = fmaxf(top, __shfl_xor_sync(kWholeWarp, top, 2));
      const float base = raisedBase(base_[half], top);
      factors[half] = exp2Fast(base_[half] - base);
      base_[half] = base;
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        p_[j][i] = isSeen(j, i) ? probability(p_[j][i], scaleAt(scaleOf, j, i), base_[i / 2]) : 0;
    }
#pragma unroll
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& sum = sum_[i / 2][quarter][i % 2];
        sum = __fmaf_rn(sum, factors[i / 2], p_[2 * quarter][i] + p_[2 * quarter + 1][i]);
      }
    }
  }

  __device__ bool isScaled(int page) const { return traits_ >> (16 * page) & kScaled; }
  __device__ bool isThere(int page) const { return (traits_ >> (16 * page) & kNotThere) == 0; }

  __device__ void packWeights(const TokenScales& scales) {
    const int t = lane_ % 4;
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (!isScaled(page)) continue;
#pragma unroll
      for (int j = 4 * page; j < 4 * page + 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p_[j][i] *= scales.values[8 * j + 2 * t + i % 2];
      }
    }
#pragma unroll
    for (int depth = 0; depth < 4; ++depth) {
      const float(&even)[4] = p_[2 * depth], (&odd)[4] = p_[2 * depth + 1];
      weights_[depth][0] = packBf16(even[0], odd[0]);
      weights_[depth][1] = packBf16(even[2], odd[2]);
      weights_[depth][2] = packBf16(even[1], odd[1]);
      weights_[depth][3] = packBf16(even[3], odd[3]);
    }
  }

  // Adds the run to what the runs before have left, there or, if it is the last, on its way out.
  __device__ void endRun(bool last) {
    // What is left of channels 32 b + 8 t and the next seven, brought while those before are added.
    struct Left {
      float4 four[2];
    };
    constexpr int kBlocks = kHeadDim / 32;
    const auto place = [&](int block, int e) -> float4& { return block_.memory.total(2 * block + e); };
    const auto leftOf = [&](int block) { return Left{place(block, 0), place(block, 1)}; };
    Left next = leftOf(0);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto& sum = sum_[half];
      const SoftmaxSums run{base_[half], overQuarters(overClasses(sum[0]), overClasses(sum[1]),
                                                      overClasses(sum[2]), overClasses(sum[3]))};
      const MergeFactors factors = MergeFactors::merge(totals_[half], run);
      const float inverse = 1 / totals_[half].sum;
      const int query = queryOf(half);
      bf16* head = block_.problem.out + (std::int64_t{block_.rowOf(query)} * block_.problem.heads +
                                         block_.kvHead * block_.group + query % block_.group) *
                                            kHeadDim;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const int block = half * kBlocks + b;
        const Left left = next;
        if (block + 1 < 2 * kBlocks) next = leftOf(block + 1);
        float eight[8];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float earlier[4] = {left.four[e].x, left.four[e].y, left.four[e].z, left.four[e].w};
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            eight[4 * e + i] = factors.combine(earlier[i], out_[4 * b + i][2 * half + e]);
          }
          if (!last)
            place(block, e) = float4{eight[4 * e], eight[4 * e + 1], eight[4 * e + 2], eight[4 * e + 3]};
        }
        if (!last || query >= block_.queries) continue;
        *reinterpret_cast<uint4*>(head + 32 * b + 8 * (lane_ % 4)) =
            make_uint4(packBf16(eight[0] * inverse, eight[1] * inverse),
                       packBf16(eight[2] * inverse, eight[3] * inverse),
                       packBf16(eight[4] * inverse, eight[5] * inverse),
                       packBf16(eight[6] * inverse, eight[7] * inverse));
      }
    }
  }

  __device__ static float overClasses(const float (&classes)[2]) {
    float sum = classes[0] + classes[1];
    sum += __shfl_xor_sync(kWholeWarp, sum, 1);
    return sum + __shfl_xor_sync(kWholeWarp, sum, 2);
  }

  const Block<kHeadDim>& block_;
  const float scale_;
  const int lane_, group_;
  Seen seenByAll_;
  std::uint32_t traits_;         // of a step's pages
  float p_[8][4];                // scores, then probabilities
  std::uint32_t weights_[4][4];  // pairs of them, as an operand
  float out_[kHeadDim / 8][4];
  float base_[2];
  float sum_[2][kQuarters][2];  // of the lane's two classes
  SoftmaxSums totals_[2];
};

}  // namespace tandem::cuda::wgmma_prefill

#endif
