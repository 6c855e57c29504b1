#pragma once

// A head's keys and values in int8. All warps of a block together.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cuda/kernel.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda::requantization {

// A token's symmetric scale; NaN if one of its elements is not finite.
__device__ inline float scaleOf(float largest, bool whole) {
  return whole ? largest / 127 : __uint_as_float(std::uint32_t{kNan} << 16);
}
__device__ inline std::int8_t codeOf(float value, float inverse) {
  const float place = __fmul_rn(value, inverse);
  const float inside = place > -127 ? (place < 127 ? place : 127.0f) : -127.0f;
  return static_cast<std::int8_t>(static_cast<std::int32_t>(rintf(inside)));
}
__device__ inline std::uint16_t codesOf(float even, float odd, float ofEven, float ofOdd) {
  return static_cast<std::uint16_t>(static_cast<std::uint8_t>(codeOf(even, ofEven)) |
                                    static_cast<std::uint8_t>(codeOf(odd, ofOdd)) << 8);
}

// A lane is a token; the warps divide the channels.
__device__ inline void codeKeys(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  __shared__ float parts[kWarps][kPageTokens];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float largest = 0;
  for (int pair = warp; pair < headDim / 2; pair += kWarps) {
    const auto [even, odd] = from.key(pair, lane);
    const bool finite = isFinite(even) && isFinite(odd);
    largest = fmaxf(largest, finite ? fmaxf(fabsf(even), fabsf(odd)) : INFINITY);
  }
  parts[warp][lane] = largest;
  __syncthreads();
  for (int other = 0; other < kWarps; ++other) largest = fmaxf(largest, parts[other][lane]);
  const float scale = scaleOf(largest, isFinite(largest)), inverse = inverted(scale);
  if (warp == 0) reinterpret_cast<float*>(scales)[lane] = scale;
  for (int pair = warp; pair < headDim / 2; pair += kWarps) {
    const auto [even, odd] = from.key(pair, lane);
    reinterpret_cast<std::uint16_t*>(tile)[pair * kPageTokens + lane] = codesOf(even, odd, inverse, inverse);
  }
}

// A warp has a pair of tokens, a lane every 32nd channel.
__device__ inline void codeValues(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int pair = warp; pair < kPairs; pair += kWarps) {
    Two largest{0, 0};
    for (int channel = lane; channel < headDim; channel += 32) {
      const auto [even, odd] = from.value(pair, channel, headDim);
      largest.even = fmaxf(largest.even, isFinite(even) ? fabsf(even) : INFINITY);
      largest.odd = fmaxf(largest.odd, isFinite(odd) ? fabsf(odd) : INFINITY);
    }
    largest = {warpMax(largest.even), warpMax(largest.odd)};
    const float ofEven = scaleOf(largest.even, isFinite(largest.even)),
                ofOdd = scaleOf(largest.odd, isFinite(largest.odd));
    if (lane == 0) {
      reinterpret_cast<float*>(scales)[2 * pair] = ofEven;
      reinterpret_cast<float*>(scales)[2 * pair + 1] = ofOdd;
    }
    for (int channel = lane; channel < headDim; channel += 32) {
      const auto [even, odd] = from.value(pair, channel, headDim);
      reinterpret_cast<std::uint16_t*>(tile)[pair * headDim + channel] =
          codesOf(even, odd, inverted(ofEven), inverted(ofOdd));
    }
  }
}

}  // namespace tandem::cuda::requantization
