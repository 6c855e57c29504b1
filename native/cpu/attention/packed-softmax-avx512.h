#pragma once

// The softmax of a tile of queries over a few packed pages together: from scores to probabilities as bytes.
// Include only from files compiled for AVX-512.

#include <immintrin.h>

#include <cstdint>
#include <span>

#include "cpu/attention/kernels.h"
#include "cpu/attention/packed-order.h"
#include "cpu/attention/packed-queries-avx512.h"
#include "cpu/attention/softmax-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

// Base 2; -inf where a query does not see a token.
struct PackedScores {
  alignas(64) float of[kMostTogether][kTileQueries * kPageTokens];
  alignas(64) float highest[kTileQueries * kSumLanes];
};

// What the values of a few pages are weighted by, and what becomes of their sums so far:
// out = out * factor + offset + unit * (numbers . codes).
struct PackedWeights {
  // [query][kPageTokens], each 16 tokens in the order of SixteenPlaces.
  alignas(64) std::uint8_t numbers[kMostTogether][kTileQueries * kPageTokens];
  float factors[kTileQueries], offsets[kTileQueries + 3], units[kTileQueries];
};

inline constexpr float kTopByte = 255;

// 2^x for x <= 0: bytes are made of it, so p of exp2Avx512 is of degree 4 here (relative error 3e-6, and 2^0
// is exactly 1). Below 2^-149 the result is 0; NaN stays NaN.
[[gnu::always_inline]] inline __m512 exp2Packed(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-200.0f), x);
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(0.009582853f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.055906425f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24024099f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.6931242f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// Bytes of two queries, [query][32 tokens], from whole numbers of 16 tokens each.
template <int Bits>
[[gnu::always_inline]] inline __m512i packTwo(__m512i low0, __m512i high0, __m512i low1, __m512i high1) {
  const __m512i packed =
      _mm512_packus_epi16(_mm512_packs_epi32(low0, high0), _mm512_packs_epi32(low1, high1));
  // Each quarter has four neighbouring tokens of either half of either query.
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order, packed),
                             _mm512_load_si512(kSixteenPlaces<Bits>.places));
}

[[gnu::always_inline]] inline bool seesAll(std::span<const PageCodes> pages, int query) {
  std::uint32_t visible = 0xffffffffu;
  for (const PageCodes& page : pages) visible &= page.visible[query];
  return visible == 0xffffffffu;
}

// The largest value step among the tokens of each page that visibleOf(page) has; NaN if there is one.
template <class VisibleOf>
[[gnu::always_inline]] inline float largestStep(std::span<const PageCodes> pages, VisibleOf visibleOf) {
  __m512i largest = _mm512_setzero_si512();
  for (const PageCodes& page : pages) {
    const __m512i steps = _mm512_maskz_loadu_epi16(visibleOf(page), page.valueScales);
    largest = _mm512_max_epu16(largest, _mm512_and_si512(steps, _mm512_set1_epi16(0x7fff)));
  }
  return largestOf(largest);
}

// For R queries from `first` on, step by step together.
template <int R, int Bits>
[[gnu::always_inline]] inline void packedSoftmaxGroup(const QueryTile& tile, std::span<const PageCodes> pages,
                                                      const PackedScores& scores, float allSteps, int first,
                                                      PackedWeights& weights, Prefetch* next) {
  constexpr __mmask8 kQueries = (1 << R) - 1;
  __m512 four[4];
  unroll<4>([&](auto r) { four[r] = _mm512_setzero_ps(); });
  unroll<R>([&](auto r) { four[r] = _mm512_load_ps(scores.highest + (first + r) * kSumLanes); });
  const SoftmaxRise rise = raiseMaximum(
      tile, first, kQueries, reduceFour(four, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); }));

  float largest[R];
  __m512 per[R], tops[R], sums[R];
  __m512i numberSums[(R + 1) / 2];
  unroll<R>([&](auto r) {
    const int query = first + r;
    largest[r] = seesAll(pages, query)
                     ? allSteps
                     : largestStep(pages, [query](const PageCodes& page) { return page.visible[query]; });
    per[r] = _mm512_set1_ps(numbersPer(largest[r], kTopByte));
    tops[r] = _mm512_set1_ps(rise.tops[r]);
    sums[r] = _mm512_setzero_ps();
  });
  unroll<(R + 1) / 2>([&](auto two) { numberSums[two] = _mm512_setzero_si512(); });
  unroll<4>([&](auto r) { four[r] = _mm512_setzero_ps(); });
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::size_t i = 0; i < pages.size(); ++i) {
    next[i].step<8>();
    __m512 p0[R], p1[R];
    unroll<R>([&](auto r) {
      const float* score = scores.of[i] + (first + r) * kPageTokens;
      p0[r] = exp2Packed(_mm512_sub_ps(_mm512_load_ps(score), tops[r]));
      p1[r] = exp2Packed(_mm512_sub_ps(_mm512_load_ps(score + 16), tops[r]));
      sums[r] = _mm512_add_ps(sums[r], _mm512_add_ps(p0[r], p1[r]));
    });
    if (!tile.out) continue;
    const auto* scales = reinterpret_cast<const __m256i*>(pages[i].valueScales);
    const __m512 low = widened(_mm256_loadu_si256(scales)), high = widened(_mm256_loadu_si256(scales + 1));
    const __m512 lowMiddles = widened(_mm256_loadu_si256(scales + 2)),
                 highMiddles = widened(_mm256_loadu_si256(scales + 3));
    __m512i numbers[2 * R];
    unroll<R>([&](auto r) {
      four[r] = _mm512_fmadd_ps(p1[r], highMiddles, _mm512_fmadd_ps(p0[r], lowMiddles, four[r]));
      numbers[2 * r] = _mm512_cvtps_epi32(_mm512_mul_ps(p0[r], _mm512_mul_ps(low, per[r])));
      numbers[2 * r + 1] = _mm512_cvtps_epi32(_mm512_mul_ps(p1[r], _mm512_mul_ps(high, per[r])));
    });
    unroll<(R + 1) / 2>([&](auto two) {
      std::uint8_t* place = weights.numbers[i] + (first + 2 * two) * kPageTokens;
      if constexpr (R == 1) {
        const __m512i bytes = packTwo<Bits>(numbers[0], numbers[1], numbers[0], numbers[1]);
        numberSums[0] = _mm512_dpbusd_epi32(numberSums[0], bytes, ones);
        _mm256_store_si256(reinterpret_cast<__m256i*>(place), _mm512_castsi512_si256(bytes));
      } else {
        const __m512i bytes =
            packTwo<Bits>(numbers[4 * two], numbers[4 * two + 1], numbers[4 * two + 2], numbers[4 * two + 3]);
        numberSums[two] = _mm512_dpbusd_epi32(numberSums[two], bytes, ones);
        _mm512_store_si512(place, bytes);
      }
    });
  }
  unroll<R>([&](auto r) {
    float* sum = tile.sum + (first + r) * kSumLanes;
    const __m512 earlier = _mm512_mul_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(rise.factors[r]));
    _mm512_storeu_ps(sum, _mm512_fmadd_ps(sums[r], _mm512_set1_ps(rise.locals[r]), earlier));
  });
  if (!tile.out) return;
  unroll<R>([&](auto r) {
    const int query = first + r;
    const float unit = largest[r] / kTopByte;
    weights.factors[query] = rise.factors[r];
    weights.units[query] = unit * rise.locals[r];
    const __m512 above = _mm512_set1_ps(levelOf(Bits, (1 << Bits) - 1) * unit);
    // Of two queries each has a half, and is summed in the same lanes wherever it was.
    const __m512i own = _mm512_zextsi256_si512(_mm512_extracti64x4_epi64(numberSums[r / 2], r % 2));
    four[r] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(own), above, four[r]);
  });
  const __m128 offsets = reduceFour(four, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  _mm_storeu_ps(weights.offsets + first, _mm_mul_ps(offsets, _mm_load_ps(rise.locals)));
}

template <int Bits>
[[gnu::always_inline]] inline void packedSoftmax(const QueryTile& tile, std::span<const PageCodes> pages,
                                                 const PackedScores& scores, PackedWeights& weights,
                                                 Prefetch* next) {
  const float allSteps = largestStep(pages, [](const PageCodes&) { return 0xffffffffu; });
  byGroups<4>(tile.queries, [&](auto r, int first) {
    packedSoftmaxGroup<r, Bits>(tile, pages, scores, allSteps, first, weights, next);
  });
}

}  // namespace tandem::cpu
