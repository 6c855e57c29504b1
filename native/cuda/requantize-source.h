#pragma once

// What all warps of requantize.cu read: pairs of elements of a page of bf16 or int8.

#include <cstddef>
#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "kv/page-format.h"

namespace tandem::cuda::requantization {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kPairs = kPageTokens / 2;  // of tokens

inline constexpr bf16 kNan = 0x7fc0;

__device__ inline bool isFinite(float value) { return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u; }

__device__ inline float inverted(float step) { return step >= 1.17549435e-38f ? 1 / step : 0.0f; }

// Both elements of a pair.
struct Two {
  float even, odd;
};

// An element pair of a tile of bf16 or int8.
struct Source {
  const std::byte* tile;
  const float* scales;  // of tokens, or null: the elements are bf16

  // As it lies there.
  __device__ std::uint32_t raw(int index) const {
    return scales == nullptr ? reinterpret_cast<const std::uint32_t*>(tile)[index]
                             : reinterpret_cast<const std::uint16_t*>(tile)[index];
  }
  __device__ Two meaning(std::uint32_t pair, int evenToken, int oddToken) const {
    if (scales == nullptr) return {lowFloat(pair), highFloat(pair)};
    return {__fmul_rn(static_cast<float>(static_cast<std::int8_t>(pair & 0xff)), scales[evenToken]),
            __fmul_rn(static_cast<float>(static_cast<std::int8_t>(pair >> 8)), scales[oddToken])};
  }
  __device__ Two at(int index, int evenToken, int oddToken) const {
    return meaning(raw(index), evenToken, oddToken);
  }
  __device__ Two key(int pair, int token) const { return at(pair * kPageTokens + token, token, token); }
  __device__ Two value(int pair, int channel, int headDim) const {
    return at(pair * headDim + channel, 2 * pair, 2 * pair + 1);
  }
};

}  // namespace tandem::cuda::requantization
