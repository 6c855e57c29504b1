#pragma once

// How far the groups of a warp's patches reach. A warp has eight of each eight lanes (keys: the channels of
// their four rows) or of all (values: the tokens of its four rows); a lane ends with one of them, lane % 8 of
// the eight.

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/requantize-source.h"
#include "cuda/warp-halves.h"

namespace tandem::cuda::requantization {

inline constexpr int kGroups = 2 * kRows;  // of a patch

// Who has the group: eight lanes, or the warp.
enum class Shared { byEight, byWarp };

template <Shared kShared, class T, class Best>
__device__ T ofAllEights(T value, const Best& best) {
  if constexpr (kShared == Shared::byWarp) {
    value = best(value, __shfl_xor_sync(kWholeWarp, value, 8));
    value = best(value, __shfl_xor_sync(kWholeWarp, value, 16));
  }
  return value;
}

// Of a group: its lowest and its highest element; not a number where one of them is none.
struct Reach {
  float low, high;
};

template <Shared kShared, int kPatches, class ScaleOf>
__device__ Reach reachOf(const Patch<false> (&patches)[kPatches], const ScaleOf&) {
  constexpr std::uint32_t kSigns = 0x80008000u;
  const auto higher = [](std::uint32_t a, std::uint32_t b) { return maxBf16(a, b); };
  std::uint32_t reach[kGroups];  // of each row the highest, and then of each the lowest, negated
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    std::uint32_t low = patches[0].words[row][0], high = low;
#pragma unroll
    for (int i = 1; i < kPatches * kColumns; ++i) {
      const std::uint32_t pair = patches[i / kColumns].words[row][i % kColumns];
      low = minBf16(low, pair), high = maxBf16(high, pair);
    }
    reach[row] = high, reach[kRows + row] = low ^ kSigns;
  }
  divide<4>(reach, 1, higher);
  divide<2>(reach, 4, higher);
  divide<1>(reach, 2, higher);
  const std::uint32_t mine = ofAllEights<kShared>(reach[0], higher);
  const std::uint32_t other = __shfl_xor_sync(kWholeWarp, mine, 1);
  return threadIdx.x % 2 == 0 ? Reach{-lowFloat(other), lowFloat(mine)}
                              : Reach{-highFloat(mine), highFloat(other)};
}

// scaleOf(row, column): of a pair.
template <Shared kShared, int kPatches, class ScaleOf>
__device__ Reach reachOf(const Patch<true> (&patches)[kPatches], const ScaleOf& scaleOf) {
  const auto higher = [](float a, float b) { return maxOrNan(a, b); };
  float reach[2 * kGroups];  // of each row's even elements the highest and the lowest, negated; then the odd
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    float *even = reach + 2 * row, *odd = reach + kGroups + 2 * row;
#pragma unroll
    for (int i = 0; i < kPatches * kColumns; ++i) {
      const Two x = patches[i / kColumns].at(row, i % kColumns, scaleOf(row, i % kColumns));
      even[0] = i == 0 ? x.even : higher(even[0], x.even);
      even[1] = i == 0 ? -x.even : higher(even[1], -x.even);
      odd[0] = i == 0 ? x.odd : higher(odd[0], x.odd);
      odd[1] = i == 0 ? -x.odd : higher(odd[1], -x.odd);
    }
  }
  divide<8>(reach, 1, higher);
  divide<4>(reach, 4, higher);
  divide<2>(reach, 2, higher);
  return {-ofAllEights<kShared>(reach[1], higher), ofAllEights<kShared>(reach[0], higher)};
}

}  // namespace tandem::cuda::requantization
