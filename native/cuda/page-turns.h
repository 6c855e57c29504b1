#pragma once

// RoPE turns compose, R(-n) R(p) = R(p - n): a query that is turned back by whole pages meets keys as if so
// many pages between them did not exist, and keys stay as they lie. A step's turns are made by `ropeAngles`:
// [turns, 2, headDim / 2] float32, cosines and sines, of which turn i is back by i pages up to the longest
// mid partition, and a turn for the sink of each sequence comes behind them.

#include "cuda/bf16-pair.h"

namespace tandem::cuda {

// Four neighbouring channels of a query and their partners half a head on.
struct QueryPart {
  uint2 first, second;

  // `turn` [2, half]; the part begins at `channel`.
  __device__ QueryPart turned(const float* turn, int half, int channel) const;
};

// The same as float32, in which it is turned.
struct WideQueryPart {
  float4 first, second;

  __device__ explicit WideQueryPart(const QueryPart& part)
      : first(widened(part.first)), second(widened(part.second)) {}
  __device__ WideQueryPart(const float4& first, const float4& second) : first(first), second(second) {}

  __device__ static float4 widened(uint2 four) {
    return {lowFloat(four.x), highFloat(four.x), lowFloat(four.y), highFloat(four.y)};
  }

  __device__ QueryPart turned(const float* turn, int half, int channel) const {
    const float4 cosines = *reinterpret_cast<const float4*>(turn + channel);
    const float4 sines = *reinterpret_cast<const float4*>(turn + half + channel);
    const float4 &a = first, &b = second;
    QueryPart result;
    turnPair(a.x, a.y, b.x, b.y, cosines.x, cosines.y, sines.x, sines.y, result.first.x, result.second.x);
    turnPair(a.z, a.w, b.z, b.w, cosines.z, cosines.w, sines.z, sines.w, result.first.y, result.second.y);
    return result;
  }

 private:
  __device__ static void turnPair(float a0, float a1, float b0, float b1, float cosine0, float cosine1,
                                  float sine0, float sine1, std::uint32_t& turnedFirst,
                                  std::uint32_t& turnedSecond) {
    turnedFirst = packBf16(productsAdded(a0, cosine0, -b0, sine0), productsAdded(a1, cosine1, -b1, sine1));
    turnedSecond = packBf16(productsAdded(b0, cosine0, a0, sine0), productsAdded(b1, cosine1, a1, sine1));
  }
  // a * b + c * d. Named, so that the compiler rounds the same product wherever a query is turned: a row's
  // bits shall not depend on which of several copies of the loop it went through.
  __device__ static float productsAdded(float a, float b, float c, float d) {
    return __fmaf_rn(a, b, __fmul_rn(c, d));
  }
};

__device__ inline QueryPart QueryPart::turned(const float* turn, int half, int channel) const {
  return WideQueryPart(*this).turned(turn, half, channel);
}

}  // namespace tandem::cuda
