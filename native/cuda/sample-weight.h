#pragma once

#include <cstdint>

#include "cuda/kernel.h"
#include "cuda/sample-kernels.h"

namespace tandem::cuda {

// exp((logit - highest) * scale) in units of 2^-kWeightBits, rounded down, for logit <= highest. The float
// before that is the processor's (`expOf` in cpu/sampling/row-kernels.inl) to the last bit, which is why no
// product may be fused with a sum.
__device__ inline std::uint64_t weightOf(float logit, float highest, float scale) {
  const float y = __fmul_rn(__fmul_rn(__fsub_rn(logit, highest), scale), 1.44269504f);
  if (!(y >= -kWeightBits - 1.0f)) return 0;
  constexpr float kRound = 12582912.0f;  // adding 1.5 * 2^23 leaves no bits behind the point
  const float n = __fsub_rn(__fadd_rn(y, kRound), kRound);
  const float r = __fsub_rn(y, n);
  float p = 0.00015594678f;
  p = __fadd_rn(__fmul_rn(p, r), 0.0013406644f);
  p = __fadd_rn(__fmul_rn(p, r), 0.009617693f);
  p = __fadd_rn(__fmul_rn(p, r), 0.055503106f);
  p = __fadd_rn(__fmul_rn(p, r), 0.24022653f);
  p = __fadd_rn(__fmul_rn(p, r), 0.6931472f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  const std::uint32_t bits = __float_as_uint(p);
  const int exponent = static_cast<int>(bits >> 23) - 127 + static_cast<int>(n);
  const std::uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;
  return mantissa << (kWeightBits - 23) >> -exponent;
}

// whole * fraction / 2^64, rounded down and up.
__device__ inline std::uint64_t fractionOf(std::uint64_t whole, std::uint64_t fraction) {
  return __umul64hi(whole, fraction);
}
__device__ inline std::uint64_t fractionUp(std::uint64_t whole, std::uint64_t fraction) {
  return __umul64hi(whole, fraction) + (whole * fraction != 0 ? 1 : 0);
}

}  // namespace tandem::cuda
