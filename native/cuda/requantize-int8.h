#pragma once

// A head's keys and values of bf16 in int8. All warps of a block together.

#include <cstddef>
#include <cstdint>

#include "cuda/kernel.h"
#include "cuda/requantize-reach.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda::requantization {

// Of each element of a pair.
__device__ inline std::uint32_t magnitudes(std::uint32_t pair) { return pair & 0x7fff7fffu; }

// A token's symmetric scale, NaN if one of its elements is not finite, and the inverse.
struct TokenScale {
  float scale, inverse;

  // largest: of the elements' magnitudes, not a number where one of them is none.
  __device__ static TokenScale of(float largest) {
    const float scale = isFinite(largest) ? __fdiv_rn(largest, 127) : lowFloat(kNan);
    return {scale, inverted(scale)};
  }
};

// The code in the lowest byte: to nearest, ties to even, by leaving no bits below the point. No value is
// further than 127 scales from zero by more than rounding; what is not a number becomes -127.
__device__ inline std::uint32_t codeOf(float value, float inverse) {
  return __float_as_uint(__fadd_rn(fmaxf(__fmul_rn(value, inverse), -127.0f), 12582912.0f));
}

// The codes of two pairs, in the order of their elements.
__device__ inline std::uint32_t codesOf(std::uint32_t first, std::uint32_t second, Two ofFirst,
                                        Two ofSecond) {
  const std::uint32_t low =
      __byte_perm(codeOf(lowFloat(first), ofFirst.even), codeOf(highFloat(first), ofFirst.odd), 0x0040);
  const std::uint32_t high =
      __byte_perm(codeOf(lowFloat(second), ofSecond.even), codeOf(highFloat(second), ofSecond.odd), 0x0040);
  return __byte_perm(low, high, 0x5410);
}

// A lane has tokens 4 (lane % 8) and the next three of every 16th pair of channels.
template <int kMostRows>
__device__ void codeKeys(const std::byte* from, int headDim, std::byte* tile, std::byte* scales) {
  alignas(16) __shared__ bf16 parts[kWarps][kPageTokens];
  alignas(16) __shared__ float inverses[kWarps][kPageTokens];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int eighth = lane % 8, firstRow = static_cast<int>(threadIdx.x) / 8;
  const auto place = [&](int i) { return (firstRow + 16 * i) * kPageTokens + 4 * eighth; };
  const auto holds = [&](int i) { return firstRow + 16 * i < headDim / 2; };
  uint4 rows[kMostRows];
  std::uint32_t largest[4] = {};
#pragma unroll
  for (int i = 0; i < kMostRows; ++i) {
    rows[i] = make_uint4(0, 0, 0, 0);
    if (holds(i)) rows[i] = reinterpret_cast<const uint4*>(from)[place(i) / 4];
  }
#pragma unroll
  for (int i = 0; i < kMostRows; ++i) {
    const std::uint32_t pairs[4] = {rows[i].x, rows[i].y, rows[i].z, rows[i].w};
#pragma unroll
    for (int token = 0; token < 4; ++token)
      largest[token] = maxBf16(largest[token], magnitudes(pairs[token]));
  }
  // Of two tokens each what is largest of both halves, and then of the warp.
  std::uint32_t of[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t first = largest[2 * i], second = largest[2 * i + 1];
    of[i] = maxBf16(__byte_perm(first, second, 0x5410), __byte_perm(first, second, 0x7632));
    of[i] =
        ofAllEights<Shared::byWarp>(of[i], [](std::uint32_t a, std::uint32_t b) { return maxBf16(a, b); });
  }
  if (lane < 8) *reinterpret_cast<uint2*>(&parts[warp][4 * lane]) = make_uint2(of[0], of[1]);
  __syncthreads();
  // Magnitudes, and NaNs above them, are ordered as whole numbers are.
  int ofToken = 0;
#pragma unroll
  for (int other = 0; other < kWarps; ++other) ofToken = max(ofToken, parts[other][lane]);
  const auto token = TokenScale::of(lowFloat(static_cast<std::uint32_t>(ofToken)));
  if (warp == 0) reinterpret_cast<float*>(scales)[lane] = token.scale;
  inverses[warp][lane] = token.inverse;
  __syncwarp();
  const float4 by = *reinterpret_cast<const float4*>(&inverses[warp][4 * eighth]);
#pragma unroll
  for (int i = 0; i < kMostRows; ++i) {
    if (!holds(i)) continue;
    reinterpret_cast<uint2*>(tile)[place(i) / 4] =
        make_uint2(codesOf(rows[i].x, rows[i].y, {by.x, by.x}, {by.y, by.y}),
                   codesOf(rows[i].z, rows[i].w, {by.z, by.z}, {by.w, by.w}));
  }
}

// A warp has four pairs of tokens, a lane of them four channels of each 128.
template <int kPatches>
__device__ void codeValues(const std::byte* from, int headDim, std::byte* tile, std::byte* scales) {
  alignas(16) __shared__ float inverses[kWarps][kGroups];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto channelOf = [&](int patch) { return 128 * patch + 4 * lane; };
  const auto place = [&](int row, int patch) { return (warp * kRows + row) * headDim + channelOf(patch); };
  uint4 rows[kPatches][kRows];
#pragma unroll
  for (int patch = 0; patch < kPatches; ++patch) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      rows[patch][i] = make_uint4(0, 0, 0, 0);
      if (channelOf(patch) < headDim)
        rows[patch][i] = reinterpret_cast<const uint4*>(from)[place(i, patch) / 4];
    }
  }
  const auto higher = [](std::uint32_t a, std::uint32_t b) { return maxBf16(a, b); };
  std::uint32_t largest[kRows] = {};
#pragma unroll
  for (int patch = 0; patch < kPatches; ++patch) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const uint4 row = rows[patch][i];
      largest[i] = higher(higher(largest[i], magnitudes(row.x)), magnitudes(row.y));
      largest[i] = higher(higher(largest[i], magnitudes(row.z)), magnitudes(row.w));
    }
  }
  divide<2>(largest, 4, higher);
  divide<1>(largest, 2, higher);
  const std::uint32_t both = higher(largest[0], __shfl_xor_sync(kWholeWarp, largest[0], 1));
  const std::uint32_t mine = ofAllEights<Shared::byWarp>(both, higher);
  const auto token = TokenScale::of(lane % 2 == 0 ? lowFloat(mine) : highFloat(mine));
  if (lane < kGroups) {
    reinterpret_cast<float*>(scales)[kGroups * warp + lane] = token.scale;
    inverses[warp][lane] = token.inverse;
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const Two by{inverses[warp][2 * i], inverses[warp][2 * i + 1]};
#pragma unroll
    for (int patch = 0; patch < kPatches; ++patch) {
      if (channelOf(patch) >= headDim) continue;
      const uint4 row = rows[patch][i];
      reinterpret_cast<uint2*>(tile)[place(i, patch) / 4] =
          make_uint2(codesOf(row.x, row.y, by, by), codesOf(row.z, row.w, by, by));
    }
  }
}

}  // namespace tandem::cuda::requantization
