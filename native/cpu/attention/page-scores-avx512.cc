#include "cpu/attention/page-scores-avx512.h"

#include <immintrin.h>

#include "cpu/attention/packed-codes-avx512.h"
#include "cpu/attention/packed-queries-avx512.h"
#include "cpu/attention/page-turns.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

[[gnu::always_inline]] inline __mmask32 lanesOf(int count) {
  return count >= 32 ? 0xffffffffu : count > 0 ? (1u << count) - 1 : 0;
}

// Queries that meet a page together: what it has is read once for them, and what waits in one goes on in
// another.
constexpr int kTogether = 4;

// Middles of at most 2^12 times what a query is turned to, over a head's channels, fit a sum of 32 bits.
constexpr int kMiddleBit = 11;

struct KeyScales {
  ScaleNumbers steps, middles;
};

// R queries, turned and multiplied by a page's steps, as bytes: score = unit * (numbers . codes) + offset.
// Channels in the order of placeOfEight and orderOfEight.
template <int R>
struct ByteQueries {
  alignas(64) std::int8_t numbers[R][kMaxHeadDim];
  float units[kTogether], offsets[kTogether];
};

// R queries from `first` on: turned, multiplied by the page's steps, and brought to bytes.
template <int R, int Bits>
[[gnu::always_inline]] inline void foldTurned(const TurnedQueries& of, int headDim, const KeyScales& scales,
                                              int first, ByteQueries<R>& out) {
  const int half = headDim / 2;
  const std::int16_t* numbers = of.numbers + first * kNumbersStride;
  alignas(64) std::int16_t products[R][kMaxHeadDim];
  __m512i largest[R], middles[R];
  unroll<R>([&](auto r) { largest[r] = middles[r] = _mm512_setzero_si512(); });
  for (int i = 0; i < half; i += 32) {
    const __mmask32 lanes = lanesOf(half - i);
    const auto pairAt = [&](const std::int16_t* at) __attribute__((always_inline)) {
      return _mm512_maskz_loadu_epi16(lanes, at + i);
    };
    const __m512i cosine = pairAt(of.cosineNumbers), sine = pairAt(of.sineNumbers);
    const __m512i lowStep = pairAt(scales.steps.numbers), highStep = pairAt(scales.steps.numbers + half);
    const __m512i lowMiddle = pairAt(scales.middles.numbers),
                  highMiddle = pairAt(scales.middles.numbers + half);
    unroll<R>([&](auto r) {
      const __m512i a = pairAt(numbers + r * kNumbersStride), b = pairAt(numbers + r * kNumbersStride + half);
      const __m512i low = _mm512_sub_epi16(_mm512_mulhrs_epi16(a, cosine), _mm512_mulhrs_epi16(b, sine)),
                    high = _mm512_add_epi16(_mm512_mulhrs_epi16(b, cosine), _mm512_mulhrs_epi16(a, sine));
      middles[r] = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(middles[r], low, lowMiddle), high, highMiddle);
      const __m512i lowProduct = _mm512_mulhrs_epi16(low, lowStep),
                    highProduct = _mm512_mulhrs_epi16(high, highStep);
      largest[r] = _mm512_max_epi16(
          largest[r], _mm512_max_epi16(_mm512_abs_epi16(lowProduct), _mm512_abs_epi16(highProduct)));
      _mm512_mask_storeu_epi16(products[r] + i, lanes, lowProduct);
      _mm512_mask_storeu_epi16(products[r] + half + i, lanes, highProduct);
    });
  }
  const __m128i factor = byteFactors<R>(largest);
  __m512i factors[R], rounded[R];
  unroll<R>([&](auto r) {
    factors[r] = factorOf(factor, r);
    rounded[r] = _mm512_setzero_si512();
  });
  const __m512i ones = _mm512_set1_epi8(1), places = _mm512_load_si512(kEightPlaces<Bits>.places);
  for (int channel = 0; channel < headDim; channel += 64) {
    const __mmask32 low = lanesOf(headDim - channel), high = lanesOf(headDim - channel - 32);
    unroll<R>([&](auto r) {
      const auto numbersAt = [&](__mmask32 lanes, int at) __attribute__((always_inline)) {
        return _mm512_mulhrs_epi16(_mm512_maskz_loadu_epi16(lanes, products[r] + at), factors[r]);
      };
      const __m512i bytes = _mm512_shuffle_epi8(
          _mm512_packs_epi16(numbersAt(low, channel), numbersAt(high, channel + 32)), places);
      rounded[r] = _mm512_dpbusd_epi32(rounded[r], ones, bytes);
      _mm512_store_si512(out.numbers[r] + channel, bytes);
    });
  }
  const auto sumsOf = [](const __m512i(&lanes)[R]) __attribute__((always_inline)) {
    __m512 four[kTogether];
    unroll<kTogether>([&](auto r) { four[r] = _mm512_setzero_ps(); });
    unroll<R>([&](auto r) { four[r] = _mm512_cvtepi32_ps(lanes[r]); });
    return reduceFour(four, [](__m512 x, __m512 y) { return _mm512_add_ps(x, y); });
  };
  const __m128 turnedUnits =
      _mm_mul_ps(_mm_maskz_loadu_ps((1 << R) - 1, of.units + first), _mm_set1_ps(32768 / kTurnUnit));
  const __m128 units = _mm_mul_ps(unitsOf(factor, scales.steps), turnedUnits);
  const __m128 ofMiddles =
      _mm_mul_ps(sumsOf(middles), _mm_mul_ps(turnedUnits, _mm_set1_ps(scales.middles.unit)));
  const __m128 ofLevels =
      _mm_mul_ps(sumsOf(rounded), _mm_mul_ps(units, _mm_set1_ps(levelOf(Bits, (1 << Bits) - 1))));
  _mm_storeu_ps(out.units, units);
  _mm_storeu_ps(out.offsets, _mm_sub_ps(ofMiddles, ofLevels));
}

// The highest score of each of R queries.
template <int R, int Bits>
[[gnu::always_inline]] inline void scoreGroup(const PageScores& page, int headDim, const KeyScales& scales,
                                              int first) {
  using Codes = PackedCodes<Bits>;
  ByteQueries<R> bytes;
  foldTurned<R, Bits>(page.of, headDim, scales, first, bytes);
  const Codes codes(page.keys, nullptr);
  __m512i sums[R][4];
  unroll<4 * R>([&](auto i) { sums[i / 4][i % 4] = _mm512_setzero_si512(); });
  for (int eight = 0; eight < headDim / 8; ++eight) {
    unroll<2>([&](auto four) {
      const __m512i low = codes.template key<2 * four>(eight), high = codes.template key<2 * four + 1>(eight);
      unroll<R>([&](auto r) {
        const __m512i channels = broadcastFour(bytes.numbers[r] + placeOfEight(eight) + 4 * four);
        sums[r][2 * four] = _mm512_dpbusd_epi32(sums[r][2 * four], low, channels);
        sums[r][2 * four + 1] = _mm512_dpbusd_epi32(sums[r][2 * four + 1], high, channels);
      });
    });
  }
  __m512 best[kTogether];
  unroll<kTogether>([&](auto r) { best[r] = _mm512_setzero_ps(); });
  unroll<R>([&](auto r) {
    const auto half = [&](auto h) __attribute__((always_inline)) {
      // Both are made of whole codes: what is shifted out is zero.
      const __m512i second = _mm512_srai_epi32(sums[r][2 + h], Codes::liftOf(2 + h) - Codes::liftOf(h));
      constexpr float kUnlift = 1.0f / (1 << Codes::liftOf(h));
      return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[r][h], second)),
                             _mm512_set1_ps(bytes.units[r] * kUnlift), _mm512_set1_ps(bytes.offsets[r]));
    };
    best[r] = _mm512_max_ps(half(std::integral_constant<int, 0>{}), half(std::integral_constant<int, 1>{}));
  });
  _mm_storeu_ps(page.scores + first,
                reduceFour(best, [](__m512 x, __m512 y) { return _mm512_max_ps(x, y); }));
}

template <int Bits>
[[gnu::always_inline]] inline void scoreAll(const PageScores& page, int headDim) {
  KeyScales scales;
  toScaleNumbers<14>(page.steps, headDim, scales.steps);
  toScaleNumbers<kMiddleBit, true>(page.middles, headDim, scales.middles);
  byGroups<kTogether>(
      page.of.rows * page.of.heads, [&](auto count, int first) __attribute__((always_inline)) {
        scoreGroup<count, Bits>(page, headDim, scales, first);
      });
}

// With the usual head dimensions known, loops over channels are straight code.
template <int Bits>
void score(const PageScores& page) {
  switch (page.of.headDim) {
    case 64:
      return scoreAll<Bits>(page, 64);
    case 128:
      return scoreAll<Bits>(page, 128);
    default:
      return scoreAll<Bits>(page, page.of.headDim);
  }
}

}  // namespace

void scorePageAvx512(const PageScores& page) {
  if (page.bits == 4) {
    score<4>(page);
  } else {
    score<2>(page);
  }
}

}  // namespace tandem::cpu
