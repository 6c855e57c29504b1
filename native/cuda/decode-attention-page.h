#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cuda/attention-warp.h"
#include "cuda/decode-attention-block.h"
#include "cuda/warp-halves.h"

namespace tandem::cuda::decode {

// A warp's own page in a round: the scores of its keys, then their probabilities. `g` and `t` are those of
// attention-warp.h.
template <int kHeadDim, int kTiles>
class PageScores {
 public:
  // Begins with the products of the keys at `slot`, a PageTile, and of the queries [depth][tile][lane].
  template <class Keys>
  __device__ void score(Keys keys, float scale, const std::byte* slot,
                        const uint2 (&queries)[kHeadDim / 16][kTiles][16], int lane, int g, int t) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p_[tile][0][i] = p_[tile][1][i] = 0;
    }
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      std::uint32_t low[4], high[4];
      keys.loadKeys(low, high, slot, depth, g, t);
      uint2 q[kTiles];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) q[tile] = queries[depth][tile][lane % 16];
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
      findHighest();
    } else {
      scales_[0] = scales_[1] = {scale, scale};
      // All have the same scale, so that the highest product has the highest score.
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float first = fmaxf(p_[tile][0][i], p_[tile][0][2 + i]),
                      second = fmaxf(p_[tile][1][i], p_[tile][1][2 + i]);
          most_[tile][i] = fmaxf(kNothingSeen, __fmul_rn(fmaxf(first, second), scale));
        }
      }
    }
  }

  // Or with none, where all will be hidden. Constants would be put down before it is known whether that is
  // so.
  __device__ void scoreNothing() {
    const float nothing = __uint_as_float(static_cast<std::uint32_t>(computedAnew(0)));
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p_[tile][0][i] = p_[tile][1][i] = nothing;
    }
    scales_[0] = scales_[1] = {nothing, nothing};
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
    findHighest();
  }

  // The highest score of one of the warp's columns, which columnOf(lane) names: lanes that have other tokens
  // of the same columns halve these among them, then the tokens.
  __device__ float highest(int lane) const {
    float most[2 * kTiles];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) most[2 * tile + i] = most_[tile][i];
    }
    const auto higher = [](float a, float b) { return fmaxf(a, b); };
    if constexpr (kTiles == 2) divide<2>(most, 8, higher, lane);
    divide<1>(most, 4, higher, lane);
    for (int lanes = 8 * kTiles; lanes < 32; lanes *= 2) {
      most[0] = fmaxf(most[0], __shfl_xor_sync(kWholeWarp, most[0], lanes));
    }
    return most[0];
  }
  // The first 8 * kTiles lanes have all columns.
  __device__ static int columnOf(int lane) {
    return 2 * (lane % 4) + lane / 4 % 2 + (kTiles == 1 ? 0 : lane / 8 % 2 * 8);
  }

  // Products to probabilities, of a column whose base in this step is given.
  __device__ void weigh(int tile, int i, float base) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      p_[tile][m][i] = probability(p_[tile][m][i], scales_[m].x, base);
      p_[tile][m][2 + i] = probability(p_[tile][m][2 + i], scales_[m].y, base);
    }
  }

  // Sums of the lane's two tokens of a quarter, of both its columns, by quarter.
  __device__ float4 classesOf(int tile) const {
    const float(&first)[4] = p_[tile][0], (&second)[4] = p_[tile][1];
    return {first[0] + first[2], first[1] + first[3], second[0] + second[2], second[1] + second[3]};
  }

  // Operands of the product with the values, by quarter and pair of tokens. Codes of values are multiplied by
  // their tokens' scales here.
  __device__ uint4 weights(int tile) const {
    const uint2 first = weightsOf(p_[tile][0]), second = weightsOf(p_[tile][1]);
    return make_uint4(first.x, first.y, second.x, second.y);
  }
  __device__ void scale(int m, float2 steps) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p_[tile][m][i] *= i < 2 ? steps.x : steps.y;
    }
  }

 private:
  __device__ void findHighest() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float most = kNothingSeen;
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          most = fmaxf(most, __fmul_rn(p_[tile][m][i], scales_[m].x));
          most = fmaxf(most, __fmul_rn(p_[tile][m][2 + i], scales_[m].y));
        }
        most_[tile][i] = most;
      }
    }
  }

  float2 scales_[2];       // of products
  float p_[kTiles][2][4];  // of the page's quarters
  float most_[kTiles][2];  // of the lane's scores in each of its columns
};

}  // namespace tandem::cuda::decode
