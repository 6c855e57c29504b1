#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/attention-warp.h"
#include "cuda/decode-attention-block.h"

namespace tandem::cuda::decode {

// What a warp has of a run: the bases of all pages' probabilities, and 32 channels of the output, not yet
// divided. `g` and `t` are those of attention-warp.h.
template <int kTiles>
class RunSums {
 public:
  __device__ void begin() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) base_[tile][i] = kNothingSeen;
#pragma unroll
      for (int i = 0; i < 4; ++i) out_[0][tile][i] = out_[1][tile][i] = 0;
    }
  }

  // Of a column of the lane's.
  __device__ float base(int tile, int i) const { return base_[tile][i]; }

  // A step's pages come with these highest scores. Returns by what the sums before them are to be rescaled.
  __device__ float raise(int tile, int i, float ofStep) {
    const float before = base_[tile][i];
    base_[tile][i] = raisedBase(before, ofStep);
    return exp2Fast(before - base_[tile][i]);
  }

  __device__ void rescale(const float (&by)[kTiles][2]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        out_[0][tile][i] = __fmul_rn(out_[0][tile][i], by[tile][i % 2]);
        out_[1][tile][i] = __fmul_rn(out_[1][tile][i], by[tile][i % 2]);
      }
    }
  }

  // Adds what the page at `slot`, a PageTile, has in the 32 channels of `block`, by the weights of its
  // quarters.
  template <class Values>
  __device__ void add(Values values, const std::byte* slot, const uint4 (&weightsOf)[kTiles][16], int block,
                      int lane, int g, int t) {
    std::uint32_t words[4][4];
    values.loadValues(words, slot, block, g, t);
    uint4 weights[kTiles];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) weights[tile] = weightsOf[tile][lane % 16];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const std::uint32_t(&low)[4] = words[m], (&high)[4] = words[2 + m];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint4& four = weights[tile];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const std::uint32_t rows[4] = {low[2 * i], low[2 * i + 1], high[2 * i], high[2 * i + 1]};
          multiplyTiles(out_[i][tile], rows, m == 0 ? four.x : four.z, m == 0 ? four.y : four.w);
        }
      }
    }
  }

  // A column's channels 4 g to 4 g + 3 of the warp's 32.
  __device__ float4 out(int tile, int i) const {
    return {out_[0][tile][i], out_[0][tile][2 + i], out_[1][tile][i], out_[1][tile][2 + i]};
  }

 private:
  float out_[2][kTiles][4], base_[kTiles][2];
};

// Four channels of the output of a sequence's only run, merged with nothing as decode-merge.cu would do it.
__device__ inline uint2 outputOf(const SoftmaxSums& run, float4 out) {
  SoftmaxSums total;
  const MergeFactors factors = MergeFactors::merge(total, run);
  const float inverse = 1 / total.sum;
  const auto finish = [&](float value) { return factors.combine(0, value) * inverse; };
  return make_uint2(packBf16(finish(out.x), finish(out.y)), packBf16(finish(out.z), finish(out.w)));
}

}  // namespace tandem::cuda::decode
