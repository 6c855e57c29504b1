#pragma once

// Queries as bytes for the keys of packed pages. A page's scales are per channel, so they meet the queries
// instead of the keys. Include only from files compiled for AVX-512.

#include <immintrin.h>

#include <cstdint>
#include <span>
#include <type_traits>

#include "cpu/attention/kernels.h"
#include "cpu/attention/packed-codes-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

// score = unit * (numbers . codes) + offset, in base 2.
struct PackedQueries {
  // Channels in the order of placeOfEight and orderOfEight.
  alignas(64) std::int8_t numbers[kTileQueries * kMaxHeadDim];
  alignas(64) float units[kTileQueries + 3], offsets[kTileQueries + 3];  // written by fours
};

// Where the bytes of eight channels lie: packing 64 of them puts eight of the second half behind eight of the
// first.
constexpr int placeOfEight(int eight) { return eight / 8 * 64 + eight % 4 * 16 + eight / 4 % 2 * 8; }

// Scales of a page's channels as int16.
struct ScaleNumbers {
  alignas(64) std::int16_t numbers[kMaxHeadDim];
  float unit;
};

[[gnu::always_inline]] inline __mmask32 channelsAt(int channel, int headDim) {
  return headDim - channel >= 32 ? 0xffffffffu : headDim > channel ? 0xffffu : 0;
}

// The largest becomes at least 2^TopBit: exact, but for the last bits of those that are less than
// 2^(7 - TopBit) of it. The signs of steps, which have none, are not looked at.
template <int TopBit, bool kHaveSigns = false>
[[gnu::always_inline]] inline void toScaleNumbers(const bf16* scales, int headDim, ScaleNumbers& out) {
  static_assert(TopBit >= 7 && TopBit < 15);
  const float largest = largestOf(scales, headDim);
  const int exponent = static_cast<int>(__builtin_bit_cast(std::uint32_t, largest) >> 23);
  // A number of 2^TopBit stands for 2^(exponent - 127).
  out.unit = exponent == 255 ? largest - largest
             : exponent <= TopBit
                 ? 0.0f
                 : __builtin_bit_cast(float, static_cast<std::uint32_t>(exponent - TopBit) << 23);
  const __m512i highest = _mm512_set1_epi16(static_cast<short>(exponent));
#pragma GCC unroll 4
  for (int channel = 0; channel < headDim; channel += 32) {
    const __m512i scale = _mm512_maskz_loadu_epi16(channelsAt(channel, headDim), scales + channel);
    const __m512i below =
        _mm512_sub_epi16(highest, _mm512_srli_epi16(_mm512_and_si512(scale, _mm512_set1_epi16(0x7fff)), 7));
    const __m512i mantissa =
        _mm512_or_si512(_mm512_slli_epi16(_mm512_and_si512(scale, _mm512_set1_epi16(0x7f)), TopBit - 7),
                        _mm512_set1_epi16(1 << TopBit));
    __m512i number = _mm512_srlv_epi16(mantissa, below);
    if constexpr (kHaveSigns) {
      number = _mm512_mask_sub_epi16(number, _mm512_movepi16_mask(scale), _mm512_setzero_si512(), number);
    }
    _mm512_store_si512(out.numbers + channel, number);
  }
}

// What makes bytes of products of queries with steps: 127 * 2^15 / the largest of each, which fits int16.
// largest: of R queries, 32 lanes each.
template <int R>
[[gnu::always_inline]] inline __m128i byteFactors(const __m512i (&largest)[R]) {
  __m512 four[4];
  unroll<4>([&](auto r) { four[r] = _mm512_setzero_ps(); });
  unroll<R>([&](auto r) {
    four[r] = _mm512_cvtepi32_ps(_mm512_max_epi32(_mm512_srli_epi32(largest[r], 16),
                                                  _mm512_and_si512(largest[r], _mm512_set1_epi32(0xffff))));
  });
  const __m128 most =
      _mm_max_ps(reduceFour(four, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); }), _mm_set1_ps(128));
  return _mm_cvttps_epi32(_mm_div_ps(_mm_set1_ps(127 * 32768.0f), most));
}

// That of query r in all lanes.
[[gnu::always_inline]] inline __m512i factorOf(__m128i factors, int r) {
  return _mm512_permutexvar_epi16(_mm512_set1_epi16(static_cast<short>(2 * r)),
                                  _mm512_zextsi128_si512(factors));
}

// What such a byte stands for, of queries whose numbers stand for 1: a step is number * unit, and a product
// and the factor lose 15 bits each.
[[gnu::always_inline]] inline __m128 unitsOf(__m128i factors, const ScaleNumbers& steps) {
  return _mm_mul_ps(_mm_div_ps(_mm_set1_ps(32768.0f), _mm_cvtepi32_ps(factors)),
                    _mm_set1_ps(32768.0f * steps.unit));
}

template <int R>
[[gnu::always_inline]] inline void findFactors(const QueryTile& tile, int headDim, const ScaleNumbers& steps,
                                               int first, std::int32_t* factors) {
  __m512i largest[R];
  unroll<R>([&](auto r) { largest[r] = _mm512_setzero_si512(); });
  const std::int16_t* numbers = tile.numbers + first * kNumbersStride;
#pragma GCC unroll 4
  for (int channel = 0; channel < headDim; channel += 32) {
    const __m512i step = _mm512_load_si512(steps.numbers + channel);
    unroll<R>([&](auto r) {
      const __m512i product =
          _mm512_mulhrs_epi16(_mm512_loadu_si512(numbers + r * kNumbersStride + channel), step);
      largest[r] = _mm512_max_epi16(largest[r], _mm512_abs_epi16(product));
    });
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(factors + first), byteFactors<R>(largest));
}

// For R queries from `first` on.
template <int R, int Bits, class Middles>
[[gnu::always_inline]] inline void foldGroup(const QueryTile& tile, int headDim, const ScaleNumbers& steps,
                                             const std::int32_t* allFactors, const bf16* middles, int first,
                                             PackedQueries& queries, Prefetch& next) {
  constexpr __mmask8 kQueries = (1 << R) - 1;
  const int stride = (headDim + 31) / 32 * 32;
  const __m128i factor = _mm_loadu_si128(reinterpret_cast<const __m128i*>(allFactors + first));
  __m512i factors[R], sums[R];
  __m512 four[4];
  unroll<R>([&](auto r) {
    factors[r] = factorOf(factor, r);
    sums[r] = _mm512_setzero_si512();
  });
  unroll<4>([&](auto r) { four[r] = _mm512_setzero_ps(); });
  const __m512i ones = _mm512_set1_epi16(1);
  const std::int16_t* numbers = tile.numbers + first * kNumbersStride;
  const bf16* q = tile.q + static_cast<std::size_t>(first) * stride;
  // Bytes of 32 channels, still as int16.
  const auto numbersAt = [&](auto r, int channel) __attribute__((always_inline)) {
    const __m512i product = _mm512_mulhrs_epi16(_mm512_loadu_si512(numbers + r * kNumbersStride + channel),
                                                _mm512_load_si512(steps.numbers + channel));
    const __m512i number = _mm512_mulhrs_epi16(product, factors[r]);
    sums[r] = _mm512_dpwssd_epi32(sums[r], number, ones);
    return number;
  };
  const auto addMiddles = [&](auto r, int channel, const Middles& middle) __attribute__((always_inline)) {
    four[r] = middle.addTo(four[r], _mm512_loadu_si512(q + r * stride + channel));
  };
  const auto store = [&](auto r, int channel, __m512i low, __m512i high) __attribute__((always_inline)) {
    _mm512_store_si512(
        queries.numbers + (first + r) * kMaxHeadDim + channel,
        _mm512_shuffle_epi8(_mm512_packs_epi16(low, high), _mm512_load_si512(kEightPlaces<Bits>.places)));
  };
  int channel = 0;
#pragma GCC unroll 2
  for (; channel + 64 <= headDim; channel += 64) {
    next.step<2 * Bits>();
    const Middles low(_mm512_loadu_si512(middles + channel));
    const Middles high(_mm512_loadu_si512(middles + channel + 32));
    unroll<R>([&](auto r) {
      store(r, channel, numbersAt(r, channel), numbersAt(r, channel + 32));
      addMiddles(r, channel, low);
      addMiddles(r, channel + 32, high);
    });
  }
  if (channel < headDim) {
    const int second = channel + 32;
    const Middles low(_mm512_maskz_loadu_epi16(channelsAt(channel, headDim), middles + channel));
    const Middles high(_mm512_maskz_loadu_epi16(channelsAt(second, headDim), middles + second));
    unroll<R>([&](auto r) {
      const __m512i rest = second < headDim ? numbersAt(r, second) : _mm512_setzero_si512();
      store(r, channel, numbersAt(r, channel), rest);
      addMiddles(r, channel, low);
      if (second < headDim) addMiddles(r, second, high);
    });
  }
  const __m128 units = _mm_mul_ps(unitsOf(factor, steps), _mm_maskz_loadu_ps(kQueries, tile.units + first));
  unroll<R>([&](auto r) {
    const __m512 unit = _mm512_permutexvar_ps(_mm512_set1_epi32(r), _mm512_zextps128_ps512(units));
    const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), unit);
    four[r] = _mm512_fnmadd_ps(sum, _mm512_set1_ps(levelOf(Bits, (1 << Bits) - 1)), four[r]);
  });
  const __m128 all = reduceFour(four, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  const __m128 scale = _mm_set1_ps(tile.scale);
  _mm_storeu_ps(queries.units + first, _mm_mul_ps(units, scale));
  _mm_storeu_ps(queries.offsets + first, _mm_mul_ps(all, scale));
}

// Each of these steps is a chain in which one thing waits for another, so pages take turns.
template <int Bits, class Middles>
[[gnu::always_inline]] inline void foldPages(const QueryTile& tile, int headDim,
                                             std::span<const PageCodes> pages, PackedQueries* queries,
                                             Prefetch* next) {
  ScaleNumbers steps[kMostTogether];
  alignas(16) std::int32_t factors[kMostTogether][kTileQueries + 4];
  const auto scalesOf = [&](std::size_t i) { return reinterpret_cast<const bf16*>(pages[i].keyScales); };
  for (std::size_t i = 0; i < pages.size(); ++i) toScaleNumbers<14>(scalesOf(i), headDim, steps[i]);
  byGroups<4>(
      tile.queries, [&](auto r, int first) __attribute__((always_inline)) {
        for (std::size_t i = 0; i < pages.size(); ++i) {
          findFactors<r>(tile, headDim, steps[i], first, factors[i]);
        }
        for (std::size_t i = 0; i < pages.size(); ++i) {
          foldGroup<r, Bits, Middles>(tile, headDim, steps[i], factors[i], scalesOf(i) + headDim, first,
                                      queries[i], next[i]);
        }
      });
}

// With the usual head dimensions known, loops over channels are straight code. `Middles` are those of 32
// channels, as the instruction set multiplies them with queries; a type of the including file, so that this
// is not linked into code for another.
template <int Bits, class Middles>
void foldQueries(const QueryTile& tile, std::span<const PageCodes> pages, PackedQueries* queries,
                 Prefetch* next) {
  switch (tile.headDim) {
    case 64:
      return foldPages<Bits, Middles>(tile, 64, pages, queries, next);
    case 128:
      return foldPages<Bits, Middles>(tile, 128, pages, queries, next);
    default:
      return foldPages<Bits, Middles>(tile, tile.headDim, pages, queries, next);
  }
}

}  // namespace tandem::cpu
