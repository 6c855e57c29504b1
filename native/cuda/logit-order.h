#pragma once

// Logits as whole numbers in the same order, so that the best can be found by integer instructions and by
// their digits.

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {

// Rises with the logit. Both zeros are one, nothing but NaN has order 0 or stands above infinity's.
__device__ inline std::uint32_t orderOf(float logit) {
  const std::uint32_t bits = __float_as_uint(logit + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float logitOf(std::uint32_t order) {
  return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

inline constexpr std::uint32_t kOrderOfInfinity = 0x7f800000u | 0x80000000u;
inline constexpr std::uint32_t kOrderOfMinusInfinity = ~0xff800000u;

// Rises with preference: the higher logit first, of equals the lower token.
__device__ inline std::uint64_t keyOf(std::uint32_t order, int token) {
  return std::uint64_t{order} << 32 | ~static_cast<std::uint32_t>(token);
}
__device__ inline std::uint32_t orderIn(std::uint64_t key) { return static_cast<std::uint32_t>(key >> 32); }
__device__ inline std::int32_t tokenIn(std::uint64_t key) {
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(key));
}

// The highest of a warp, in all of its lanes.
__device__ inline std::uint64_t warpHighest(std::uint64_t key) {
  const std::uint32_t order = __reduce_max_sync(kWholeWarp, orderIn(key));
  const std::uint32_t low = orderIn(key) == order ? static_cast<std::uint32_t>(key) : 0;
  return std::uint64_t{order} << 32 | __reduce_max_sync(kWholeWarp, low);
}

}  // namespace tandem::cuda
