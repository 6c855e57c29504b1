#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cuda/attention-warp.h"
#include "cuda/decode-attention-block.h"

namespace tandem::cuda::decode {

// A warp's own page in a round: the scores of its keys, then their probabilities. `g` and `t` are those of
// attention-warp.h.
template <int kHeadDim, int kTiles>
class PageScores {
 public:
  __device__ explicit PageScores(float scale) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p_[tile][0][i] = p_[tile][1][i] = 0;
    }
    scales_[0] = scales_[1] = {scale, scale};
  }

  // Adds the products of the keys at `slot`, a PageTile, and of the queries [depth][tile][lane].
  template <class Keys>
  __device__ void score(Keys keys, float scale, const std::byte* slot,
                        const uint2 (&queries)[kHeadDim / 16][kTiles][32], int lane, int g, int t) {
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      std::uint32_t low[4], high[4];
      keys.loadKeys(low, high, slot, depth, g, t);
      uint2 q[kTiles];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) q[tile] = queries[depth][tile][lane];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t rows[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          multiplyTiles(p_[tile][m], rows, q[tile].x, q[tile].y);
        }
      }
    }
    if constexpr (keys.kScaledTokens) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const float2 ofTokens = keys.loadScales(slot, m, g);
        scales_[m] = {__fmul_rn(scale, ofTokens.x), __fmul_rn(scale, ofTokens.y)};
      }
    }
  }

  // What is not seen is lower than every score, and has the probability zero. isSeen(m, i): of the lane's
  // tokens.
  template <class IsSeen>
  __device__ void hide(const IsSeen& isSeen) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      if (!isSeen(m, 0)) scales_[m].x = 1;
      if (!isSeen(m, 1)) scales_[m].y = 1;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (!isSeen(m, i / 2)) p_[tile][m][i] = -INFINITY;
        }
      }
    }
  }

  // The highest score of a column of the lane's.
  __device__ float highest(int tile, int i) const {
    float most = kNothingSeen;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      most = fmaxf(most, __fmul_rn(p_[tile][m][i], scales_[m].x));
      most = fmaxf(most, __fmul_rn(p_[tile][m][2 + i], scales_[m].y));
    }
    return highestOfClasses(most);
  }

  // Products to probabilities, of a column whose base in this step is given.
  __device__ void weigh(int tile, int i, float base) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      p_[tile][m][i] = probability(p_[tile][m][i], scales_[m].x, base);
      p_[tile][m][2 + i] = probability(p_[tile][m][2 + i], scales_[m].y, base);
    }
  }

  // Sums of the lane's two tokens of a quarter, of both its columns.
  __device__ float2 classOf(int tile, int m) const {
    return {p_[tile][m][0] + p_[tile][m][2], p_[tile][m][1] + p_[tile][m][3]};
  }

  // Codes of values are multiplied by their tokens' scales here.
  __device__ void scale(int m, float2 steps) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p_[tile][m][i] *= i < 2 ? steps.x : steps.y;
    }
  }

  __device__ uint2 weights(int tile, int m) const { return weightsOf(p_[tile][m]); }

 private:
  float2 scales_[2];       // of products
  float p_[kTiles][2][4];  // of the page's quarters
};

}  // namespace tandem::cuda::decode
