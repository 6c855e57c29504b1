#pragma once

// What requantize.cu reads: pages of bf16 or int8, of which each lane has patches of a tile.

#include <cstddef>
#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "kv/page-format.h"

namespace tandem::cuda::requantization {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kRows = 4, kColumns = 4;  // of a patch

inline constexpr bf16 kNan = 0x7fc0;

__device__ inline bool isFinite(float value) { return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u; }

__device__ inline float inverted(float step) { return step >= 1.17549435e-38f ? __frcp_rn(step) : 0.0f; }

// Both elements of a pair.
struct Two {
  float even, odd;
};

// A head's keys or values. Rows are pairs of channels (keys) or of tokens (values), each a pair of elements
// for every token or channel.
template <bool kCoded>
struct Source {
  static constexpr int kPairBytes = kCoded ? 2 : 4;
  const std::byte* tile;
  const float* scales;  // of tokens, where the elements are codes of int8
};

// The code of int8 in the byte of `codes` that the low half of `selector` names, as a number. Codes are
// counted from -128 on (flipped), so that they become the last bits of a float beyond 2^23.
__device__ inline std::uint32_t flipped(std::uint32_t codes) { return codes ^ 0x80808080u; }
__device__ inline float codeAt(std::uint32_t flippedCodes, unsigned byte) {
  return __fsub_rn(__uint_as_float(__byte_perm(flippedCodes, 0x4b000000u, 0x7440u + byte)), 8388736.0f);
}

// Four pairs of four rows. Two codes a pair, so as many words as bytes of a bf16's pair.
template <bool kCoded>
struct Patch {
  static constexpr int kWords = Source<kCoded>::kPairBytes;
  std::uint32_t words[kRows][kWords];

  // `column` of these in the tile's order, and the one after it; `pair` is the first one's place there.
  __device__ void loadTwo(const std::byte* tile, int row, int column, int pair) {
    if constexpr (kCoded) {
      words[row][column / 2] = *reinterpret_cast<const std::uint32_t*>(tile + 2 * pair);
    } else {
      const uint2 two = *reinterpret_cast<const uint2*>(tile + 4 * pair);
      words[row][column] = two.x, words[row][column + 1] = two.y;
    }
  }
  __device__ void loadFour(const std::byte* tile, int row, int pair) {
    if constexpr (kCoded) {
      const uint2 four = *reinterpret_cast<const uint2*>(tile + 2 * pair);
      words[row][0] = four.x, words[row][1] = four.y;
    } else {
      const uint4 four = *reinterpret_cast<const uint4*>(tile + 4 * pair);
      words[row][0] = four.x, words[row][1] = four.y, words[row][2] = four.z, words[row][3] = four.w;
    }
  }

  // scale: of a pair's elements, where they are codes.
  __device__ Two at(int row, int column, Two scale) const {
    if constexpr (kCoded) {
      const std::uint32_t codes = flipped(words[row][column / 2]);
      const unsigned first = 2 * (static_cast<unsigned>(column) % 2);
      return {__fmul_rn(codeAt(codes, first), scale.even), __fmul_rn(codeAt(codes, first + 1), scale.odd)};
    } else {
      return {lowFloat(words[row][column]), highFloat(words[row][column])};
    }
  }
};

}  // namespace tandem::cuda::requantization
