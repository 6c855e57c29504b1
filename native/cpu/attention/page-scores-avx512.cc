#include "cpu/attention/page-scores-avx512.h"

#include <immintrin.h>

#include <algorithm>

#include "cpu/attention/packed-codes-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

constexpr float kTopByte = 127;

[[gnu::always_inline]] inline __mmask16 lanesOf(int count) {
  return count >= 16 ? 0xffff : static_cast<__mmask16>((1 << count) - 1);
}

// Queries that meet a page together: what it has is read once for them, and what waits in one goes on in
// another.
constexpr int kTogether = 4;

// R queries, turned and multiplied by a page's steps, as bytes: score = unit * (numbers . codes) + offset.
template <int R>
struct ByteQueries {
  alignas(64) std::int8_t numbers[R][kMaxHeadDim];
  float units[kTogether], offsets[kTogether];
};

template <int R, int Bits>
[[gnu::always_inline]] inline void foldTurned(const PageScores& page, const float* const (&queries)[R],
                                              ByteQueries<R>& out) {
  const TurnedQueries& of = page.of;
  const int half = of.headDim / 2;
  alignas(64) float products[R][kMaxHeadDim];
  __m512 middles[kTogether], largest[kTogether], rounded[kTogether];
  unroll<kTogether>([&](auto r) { middles[r] = largest[r] = rounded[r] = _mm512_setzero_ps(); });
  for (int i = 0; i < half; i += 16) {
    const __mmask16 lanes = lanesOf(half - i);
    const __m512 cosine = _mm512_maskz_loadu_ps(lanes, of.cosines + i),
                 sine = _mm512_maskz_loadu_ps(lanes, of.sines + i);
    const auto scalesAt = [&](const bf16* scales) __attribute__((always_inline)) {
      return widened(_mm256_maskz_loadu_epi16(lanes, scales));
    };
    const __m512 lowStep = scalesAt(page.steps + i), highStep = scalesAt(page.steps + half + i);
    const __m512 lowMiddle = scalesAt(page.middles + i), highMiddle = scalesAt(page.middles + half + i);
    unroll<R>([&](auto r) {
      const __m512 a = _mm512_maskz_loadu_ps(lanes, queries[r] + i),
                   b = _mm512_maskz_loadu_ps(lanes, queries[r] + half + i);
      const __m512 low = _mm512_fmsub_ps(a, cosine, _mm512_mul_ps(b, sine)),
                   high = _mm512_fmadd_ps(b, cosine, _mm512_mul_ps(a, sine));
      middles[r] = _mm512_fmadd_ps(low, lowMiddle, _mm512_fmadd_ps(high, highMiddle, middles[r]));
      const __m512 lowProduct = _mm512_mul_ps(low, lowStep), highProduct = _mm512_mul_ps(high, highStep);
      largest[r] =
          _mm512_max_ps(largest[r], _mm512_max_ps(_mm512_abs_ps(lowProduct), _mm512_abs_ps(highProduct)));
      _mm512_mask_storeu_ps(products[r] + i, lanes, lowProduct);
      _mm512_mask_storeu_ps(products[r] + half + i, lanes, highProduct);
    });
  }
  const __m128 most = reduceFour(largest, [](__m512 x, __m512 y) { return _mm512_max_ps(x, y); });
  // What vanishes or is no number becomes zeros; the latter shows in the middles' sum.
  const __mmask8 usable = _mm_cmp_ps_mask(most, _mm_set1_ps(1e-30f), _CMP_GE_OQ) &
                          _mm_cmp_ps_mask(most, _mm_set1_ps(1e30f), _CMP_LE_OQ);
  alignas(16) float factors[kTogether];
  _mm_store_ps(factors, _mm_maskz_div_ps(usable, _mm_set1_ps(kTopByte), most));
  const __m128 units = _mm_maskz_mul_ps(usable, most, _mm_set1_ps(1 / kTopByte));
  const __m128i places = _mm_load_si128(reinterpret_cast<const __m128i*>(kEightPlaces<Bits>.places));
  unroll<R>([&](auto r) {
    const __m512 factor = _mm512_set1_ps(factors[r]);
    for (int channel = 0; channel < of.headDim; channel += 16) {
      const __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(products[r] + channel), factor));
      rounded[r] = _mm512_add_ps(rounded[r], _mm512_cvtepi32_ps(number));
      _mm_store_si128(reinterpret_cast<__m128i*>(out.numbers[r] + channel),
                      _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(number), places));
    }
  });
  const auto sum = [](__m512 x, __m512 y) { return _mm512_add_ps(x, y); };
  const __m128 ofLevels =
      _mm_mul_ps(_mm_mul_ps(reduceFour(rounded, sum), units), _mm_set1_ps(levelOf(Bits, (1 << Bits) - 1)));
  _mm_storeu_ps(out.units, units);
  _mm_storeu_ps(out.offsets, _mm_sub_ps(reduceFour(middles, sum), ofLevels));
}

// The highest score of each of R queries.
template <int R, int Bits>
[[gnu::always_inline]] inline void scoreGroup(const PageScores& page, const float* const (&queries)[R],
                                              float* highest) {
  using Codes = PackedCodes<Bits>;
  ByteQueries<R> bytes;
  foldTurned<R, Bits>(page, queries, bytes);
  const Codes codes(page.keys, nullptr);
  __m512i sums[R][4];
  unroll<4 * R>([&](auto i) { sums[i / 4][i % 4] = _mm512_setzero_si512(); });
  for (int eight = 0; eight < page.of.headDim / 8; ++eight) {
    unroll<2>([&](auto four) {
      const __m512i low = codes.template key<2 * four>(eight), high = codes.template key<2 * four + 1>(eight);
      unroll<R>([&](auto r) {
        const __m512i channels = broadcastFour(bytes.numbers[r] + eight * 8 + 4 * four);
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
  _mm_storeu_ps(highest, reduceFour(best, [](__m512 x, __m512 y) { return _mm512_max_ps(x, y); }));
}

template <int Bits>
void score(const PageScores& page) {
  byGroups<kTogether>(page.of.rows * page.of.heads, [&](auto count, int first) {
    constexpr int R = count;
    const float* queries[R];
    for (int r = 0; r < R; ++r) queries[r] = page.of.query(first + r);
    scoreGroup<R, Bits>(page, queries, page.scores + first);
  });
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
