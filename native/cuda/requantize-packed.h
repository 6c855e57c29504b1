#pragma once

// A head's keys and values in a packed class. All warps of a block together.

#include <cstddef>
#include <cstdint>

#include "cuda/kernel.h"
#include "cuda/requantize-levels.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda::requantization {

__device__ inline float warpMin(float value) { return -warpMax(-value); }

template <int kBits>
__device__ Group<kBits> groupOfWarp(float low, float high, bool finite) {
  return {warpMin(low), warpMax(high), !__any_sync(kWholeWarp, !finite)};
}

// A lane is a channel, so that what all of a channel's tokens share is computed once and not by every lane. A
// warp lays 16 pairs out by token, and then 32 channels' codes, of which words hold those of neighbouring
// pairs, for the tokens 0-15 and for 16-31. Rows are a word longer than they need be, or lanes would meet in
// a bank.
template <int kBits>
__device__ void packKeys(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  constexpr int kRows = 8 / kBits, kPairsOfWarp = 16, kWordsOfGroup = kPageTokens / 2;
  constexpr int kRow = kPageTokens + 1, kCodesRow = kWordsOfGroup + 1;
  __shared__ std::uint32_t shared[kWarps][32 * kCodesRow];
  static_assert(kPairsOfWarp * kRow <= 32 * kCodesRow);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t *rows = shared[warp], *codes = rows;
  auto* steps = reinterpret_cast<bf16*>(scales);
  const int half = lane % 2, place = lane / 2 % kRows, pairs = headDim / 2;
  for (int first = warp * kPairsOfWarp; first < pairs; first += kWarps * kPairsOfWarp) {
    const int count = min(kPairsOfWarp, pairs - first);
    for (int pair = 0; pair < count; ++pair)
      rows[pair * kRow + lane] = from.raw((first + pair) * kPageTokens + lane);
    __syncwarp();
    float values[kPageTokens];
    float low = 0, high = 0;
    bool finite = true;
    const bool holds = lane < 2 * count;
#pragma unroll
    for (int token = 0; token < kPageTokens; ++token) {
      const auto [even, odd] = from.meaning(rows[(holds ? lane / 2 : 0) * kRow + token], token, token);
      const float value = half == 0 ? even : odd;
      values[token] = value;
      low = token == 0 ? value : fminf(low, value);
      high = token == 0 ? value : fmaxf(high, value);
      finite = finite && isFinite(value);
    }
    __syncwarp();
    Group<kBits> group(low, high, finite);
    if constexpr (kBits == 2) {
      group.fit(values, kPageTokens, kPageTokens, [](unsigned sum) { return sum; });
    }
    if (holds) {
      steps[2 * first + lane] = group.step;
      steps[headDim + 2 * first + lane] = group.middle;
    }
#pragma unroll
    for (int i = 0; i < kWordsOfGroup; ++i) {
      const std::uint32_t two = group.codeOf(values[i]) | group.codeOf(values[i + kWordsOfGroup]) << kBits;
      codes[lane * kCodesRow + i] = two << (16 * half + 2 * kBits * place);
    }
    __syncwarp();
    for (int i = lane; i < count / kRows * kWordsOfGroup; i += 32) {
      const int channels = i / kWordsOfGroup * 2 * kRows;
      std::uint32_t word = 0;
#pragma unroll
      for (int channel = 0; channel < 2 * kRows; ++channel) {
        word |= codes[(channels + channel) * kCodesRow + i % kWordsOfGroup];
      }
      reinterpret_cast<std::uint32_t*>(tile)[kWordsOfGroup * (first / kRows) + i] = word;
    }
    __syncwarp();
  }
}

// A lane has four channels of each 128. Words hold neighbouring pairs of tokens of 16 channels.
template <int kBits>
__device__ void packValues(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  constexpr int kRows = 16 / kBits, kMostFours = kMaxHeadDim / 128;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  auto* steps = reinterpret_cast<bf16*>(scales);
  for (int first = warp * kRows; first < kPairs; first += kWarps * kRows) {
    std::uint32_t words[kMostFours][4] = {};
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int pair = first + i;
      Two row[kMostFours][4];
      Two low{0, 0}, high{0, 0};
      bool finite[2] = {true, true}, any = false;
#pragma unroll
      for (int four = 0; four < kMostFours; ++four) {
        const int channel = 128 * four + 4 * lane;
        if (channel >= headDim) continue;
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const Two x = from.value(pair, channel + c, headDim);
          row[four][c] = x;
          low = any ? Two{fminf(low.even, x.even), fminf(low.odd, x.odd)} : x;
          high = any ? Two{fmaxf(high.even, x.even), fmaxf(high.odd, x.odd)} : x;
          any = true;
          finite[0] = finite[0] && isFinite(x.even);
          finite[1] = finite[1] && isFinite(x.odd);
        }
      }
      // Lanes without channels have what lane 0 has.
      const Two lowest{__shfl_sync(kWholeWarp, low.even, 0), __shfl_sync(kWholeWarp, low.odd, 0)};
      const Two highest{__shfl_sync(kWholeWarp, high.even, 0), __shfl_sync(kWholeWarp, high.odd, 0)};
      Group<kBits> ofEven =
          groupOfWarp<kBits>(any ? low.even : lowest.even, any ? high.even : highest.even, finite[0]);
      Group<kBits> ofOdd =
          groupOfWarp<kBits>(any ? low.odd : lowest.odd, any ? high.odd : highest.odd, finite[1]);
      if constexpr (kBits == 2) {
        float evens[4 * kMostFours], odds[4 * kMostFours];
        int held = 0;
#pragma unroll
        for (int four = 0; four < kMostFours; ++four) {
          if (128 * four + 4 * lane >= headDim) continue;
          held += 4;
#pragma unroll
          for (int c = 0; c < 4; ++c)
            evens[4 * four + c] = row[four][c].even, odds[4 * four + c] = row[four][c].odd;
        }
        const auto sumOf = [](unsigned sum) { return __reduce_add_sync(kWholeWarp, sum); };
        ofEven.fit(evens, held, headDim, sumOf);
        ofOdd.fit(odds, held, headDim, sumOf);
      }
      if (lane == 0) {
        steps[2 * pair] = ofEven.step;
        steps[2 * pair + 1] = ofOdd.step;
        steps[kPageTokens + 2 * pair] = ofEven.middle;
        steps[kPageTokens + 2 * pair + 1] = ofOdd.middle;
      }
#pragma unroll
      for (int four = 0; four < kMostFours; ++four) {
        if (128 * four + 4 * lane >= headDim) continue;
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const auto [even, odd] = row[four][c];
          words[four][c] |= (ofEven.codeOf(even) | ofOdd.codeOf(odd) << 16) << (kBits * i);
        }
      }
    }
#pragma unroll
    for (int four = 0; four < kMostFours; ++four) {
      const int channel = 128 * four + 4 * lane;
      if (channel >= headDim) continue;
      const int word = channel / 16 * (kPairs / kRows) + first / kRows;
      *reinterpret_cast<uint4*>(tile + 64 * word + channel % 16 * 4) =
          make_uint4(words[four][0], words[four][1], words[four][2], words[four][3]);
    }
  }
}

}  // namespace tandem::cuda::requantization
