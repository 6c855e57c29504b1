#pragma once

#include "cuda/bf16-pair.h"
#include "cuda/prefill-wgmma-block.h"
#include "cuda/wgmma.h"

#if defined(TANDEM_WGMMA)

namespace tandem::cuda::wgmma_prefill {

// 64 rows in a warpgroup. With g = lane / 4 and t = lane % 4 a lane has rows g and g + 8 of its warp's 16.
template <int kHeadDim>
class Attender {
 public:
  __device__ Attender(const Block<kHeadDim>& block, float scale)
      : block_(block), scale_(scale), lane_(static_cast<int>(threadIdx.x) % 32) {
    const PageFormat& format = block.problem.tables.format;
    const std::int64_t cols = std::int64_t{block.problem.heads + 2 * format.kvHeads} * kHeadDim;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = queryOf(half);
      const bf16* head = block.problem.qkv + (block.tile.row + query / block.group) * cols +
                         std::int64_t{block.kvHead * block.group + query % block.group} * kHeadDim;
#pragma unroll
      for (int depth = 0; depth < kHeadDim / 16; ++depth) {
        const uint2 words = query < block.queries
                                ? *reinterpret_cast<const uint2*>(head + 16 * depth + 4 * (lane_ % 4))
                                : make_uint2(0, 0);
        q_[depth][half] = words.x;
        q_[depth][2 + half] = words.y;
      }
      seen_[half] = block.seenBy(query);
    }
    const int firstOfWarp = static_cast<int>(threadIdx.x) / 32 * 16;
    seenByAll_ = {block.seenBy(firstOfWarp + 15).begin, block.seenBy(firstOfWarp).end};
  }

  __device__ void run() {
    const Seen seen = block_.seen();
    const int first = seen.begin / kStepTokens * kStepTokens;
    auto& barriers = block_.memory.barriers();
    Turn turn;
    beginRun();
    bool totals = false;
    int lastStage = -1;
#pragma unroll 1
    for (int token = first; token < seen.end; token += kStepTokens) {
      const TokenScales& scales = block_.memory.scales(turn.stage);
      waitFor(barriers.keys[turn.stage], turn.parity);
      // Both pages' at once, while products are made.
      const std::uint32_t traits = *reinterpret_cast<const std::uint32_t*>(scales.traits);
      score(turn.stage);
      // The values of the step before have been multiplied as well.
      if (lastStage >= 0 && lane_ == 0) arrive(barriers.used[lastStage]);
      lastStage = turn.stage;
      weigh(token, traits, scales);
      waitFor(barriers.values[turn.stage], turn.parity);
      addValues(turn.stage, traits, scales);
      turn.advance();
      const int next = token + kStepTokens;
      if (next % kRunTokens == 0 && next < seen.end) {
        finishProducts();
        endRun(totals, false);
        totals = true;
        beginRun();
      }
    }
    finishProducts();
    endRun(totals, true);
  }

 private:
  __device__ int queryOf(int half) const {
    return static_cast<int>(threadIdx.x) / 32 * 16 + lane_ / 4 + 8 * half;
  }

  __device__ void beginRun() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      highest_[half] = kNothingSeen;
#pragma unroll
      for (int quarter = 0; quarter < kQuarters; ++quarter)
        sum_[half][quarter][0] = sum_[half][quarter][1] = 0;
    }
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out_[j][i] = 0;
    }
  }

  __device__ void score(int stage) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p_[j][i] = 0;
    }
    settle(p_);
    beginProducts();
    const auto keys = operandAt(block_.memory.keys(stage), 0);
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      multiply(p_, q_[depth], operandBehind(keys, depth / 4 * Layout<kHeadDim>::kHalfBytes + depth % 4 * 32));
    }
    endProductGroup();
    finishProducts();
    settle(p_);
  }

  __device__ void finishProducts() {
    waitForProducts<0>();
    settle(out_);
  }

  __device__ void weigh(int token, std::uint32_t traits, const TokenScales& scales) {
    if (token >= seenByAll_.begin && token + kStepTokens <= seenByAll_.end && isThere(traits, 0) &&
        isThere(traits, 1)) {
      weighSeen(traits, scales, [](int, int) { return true; });
    } else {
      weighSeen(traits, scales, [&](int j, int i) {
        const int at = token + 32 * (j / 4) + 4 * (2 * (lane_ % 4) + i % 2) + j % 4;
        return isThere(traits, j / 4) && at >= seen_[i / 2].begin && at < seen_[i / 2].end;
      });
    }
  }

  // isSeen(j, i): whether the row of p_[j][i] sees its token.
  template <class IsSeen>
  __device__ void weighSeen(std::uint32_t traits, const TokenScales& scales, const IsSeen& isSeen) {
    const int t = lane_ % 4;
    float highest[2] = {highest_[0], highest_[1]};
    const auto ofPage = [&](int page, const auto& body) {
#pragma unroll
      for (int j = 4 * page; j < 4 * page + 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) body(j, i);
      }
    };
    const auto scaleOf = [&](int j, int i) { return __fmul_rn(scale_, scales.keys[8 * j + 2 * t + i % 2]); };
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (isScaled(traits, page)) {
        ofPage(page, [&](int j, int i) {
          if (isSeen(j, i)) highest[i / 2] = fmaxf(highest[i / 2], __fmul_rn(p_[j][i], scaleOf(j, i)));
        });
      } else {
        // The highest product has the highest score.
        float products[2] = {-INFINITY, -INFINITY};
        ofPage(page, [&](int j, int i) {
          if (isSeen(j, i)) products[i / 2] = fmaxf(products[i / 2], p_[j][i]);
        });
        highest[0] = fmaxf(highest[0], __fmul_rn(products[0], scale_));
        highest[1] = fmaxf(highest[1], __fmul_rn(products[1], scale_));
      }
    }
    float factors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      highest[half] = fmaxf(highest[half], __shfl_xor_sync(kWholeWarp, highest[half], 1));
      highest[half] = fmaxf(highest[half], __shfl_xor_sync(kWholeWarp, highest[half], 2));
      factors[half] = exp2Fast(highest_[half] - highest[half]);
      highest_[half] = highest[half];
    }
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (isScaled(traits, page)) {
        ofPage(page, [&](int j, int i) {
          p_[j][i] = isSeen(j, i) ? probability(p_[j][i], scaleOf(j, i), highest[i / 2]) : 0;
        });
      } else {
        ofPage(page, [&](int j, int i) {
          p_[j][i] = isSeen(j, i) ? probability(p_[j][i], scale_, highest[i / 2]) : 0;
        });
      }
    }
#pragma unroll
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& sum = sum_[i / 2][quarter][i % 2];
        sum = __fmaf_rn(sum, factors[i / 2], p_[2 * quarter][i] + p_[2 * quarter + 1][i]);
      }
    }
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out_[j][i] = __fmul_rn(out_[j][i], factors[i / 2]);
    }
  }

  __device__ static bool isScaled(std::uint32_t traits, int page) { return traits >> (16 * page) & kScaled; }
  __device__ static bool isThere(std::uint32_t traits, int page) {
    return (traits >> (16 * page) & kNotThere) == 0;
  }

  __device__ void addValues(int stage, std::uint32_t traits, const TokenScales& scales) {
    const int t = lane_ % 4;
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (!isScaled(traits, page)) continue;
#pragma unroll
      for (int j = 4 * page; j < 4 * page + 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p_[j][i] *= scales.values[8 * j + 2 * t + i % 2];
      }
    }
    std::uint32_t weights[4][4];
#pragma unroll
    for (int depth = 0; depth < 4; ++depth) {
      const float(&even)[4] = p_[2 * depth], (&odd)[4] = p_[2 * depth + 1];
      weights[depth][0] = packBf16(even[0], odd[0]);
      weights[depth][1] = packBf16(even[2], odd[2]);
      weights[depth][2] = packBf16(even[1], odd[1]);
      weights[depth][3] = packBf16(even[3], odd[3]);
    }
    settle(out_);
    beginProducts();
    const auto values = operandAt(block_.memory.values(stage), 0);
#pragma unroll
    for (int depth = 0; depth < 4; ++depth) multiply(out_, weights[depth], operandBehind(values, 32 * depth));
    endProductGroup();
  }

  // Adds the run to what the runs before have left, there or, if it is the last, on its way out.
  __device__ void endRun(bool totals, bool last) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto& sum = sum_[half];
      const SoftmaxSums run{highest_[half], overQuarters(overClasses(sum[0]), overClasses(sum[1]),
                                                         overClasses(sum[2]), overClasses(sum[3]))};
      const MergeFactors factors = MergeFactors::merge(totals_[half], run);
      const float inverse = 1 / totals_[half].sum;
      const int query = queryOf(half);
      bf16* head = block_.problem.out +
                   ((block_.tile.row + query / block_.group) * std::int64_t{block_.problem.heads} +
                    block_.kvHead * block_.group + query % block_.group) *
                       kHeadDim;
#pragma unroll
      for (int b = 0; b < kHeadDim / 32; ++b) {
        // Channels 32 b + 8 t + 4 e + i.
        float eight[8];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float4& place = block_.memory.total((half * (kHeadDim / 32) + b) * 2 + e);
          const float4 before = totals ? place : float4{0, 0, 0, 0};
          const float earlier[4] = {before.x, before.y, before.z, before.w};
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            eight[4 * e + i] = factors.combine(earlier[i], out_[4 * b + i][2 * half + e]);
          }
          if (!last) place = float4{eight[4 * e], eight[4 * e + 1], eight[4 * e + 2], eight[4 * e + 3]};
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
  const int lane_;
  std::uint32_t q_[kHeadDim / 16][4];
  Seen seen_[2], seenByAll_;
  float p_[8][4];  // scores, then probabilities
  float out_[kHeadDim / 8][4];
  float highest_[2];
  float sum_[2][kQuarters][2];  // of the lane's two classes
  SoftmaxSums totals_[2];
};

}  // namespace tandem::cuda::wgmma_prefill

#endif
