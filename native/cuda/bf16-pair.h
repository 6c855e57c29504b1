#pragma once

// Arithmetic on 32-bit words that hold two bf16 or four int8.

#include <cstdint>

#include "core/bf16.h"
#include "cuda/kernel.h"

namespace tandem::cuda {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ inline float lowFloat(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float highFloat(std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ inline bf16 roundToBf16(float value) { return static_cast<bf16>(packBf16(value, 0) & 0xffffu); }

// Two int8 codes, the low (kHalf 0) or high (1) bytes of a word, as a bf16 pair. A code's seven low bits
// behind bf16's 128 are 128 + bits; taking 128 away, or 256 where the sign bit is set, leaves the code, and
// all of it is exact.
template <int kHalf>
__device__ inline std::uint32_t expandCodes(std::uint32_t codes) {
  constexpr std::uint32_t kMinusOne = 0xbf80bf80u, k128 = 0x43004300u;
  const std::uint32_t bytes = __byte_perm(codes, 0, kHalf == 0 ? 0x4140 : 0x4342);
  return fmaBf16(maskedBehind(bytes, 0x00800080u, k128), kMinusOne, maskedBehind(bytes, 0x007f007fu, k128));
}

// Of a warp, in an order that no other warp changes.
__device__ inline float warpSum(float value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kWholeWarp, value, lanes);
  return value;
}
__device__ inline float warpMax(float value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, lanes));
  }
  return value;
}

}  // namespace tandem::cuda
