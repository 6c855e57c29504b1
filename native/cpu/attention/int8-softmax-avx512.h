#pragma once

// The softmax of a tile of queries over one page of int8: from scores in whole numbers to probabilities in
// whole numbers. Include only from files compiled for AVX-512.

#include <immintrin.h>

#include <cstdint>

#include "cpu/attention/kernels.h"
#include "cpu/attention/softmax-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

// A page's scales by token: of tokens 0..15 and 16..31.
struct TokenScales {
  __m512 low, high;
};

// Probabilities times value scales as whole numbers: their `unit` is such that the largest scale of a token
// that is seen becomes kTopNumber. A probability is relative to the page's highest, 1 at most.
struct ProbabilityNumbers {
  __m512 low, high;  // numbers per probability
  float unit;
};

[[gnu::always_inline]] inline ProbabilityNumbers probabilityNumbers(const TokenScales& scales,
                                                                    std::uint32_t visible) {
  // What nobody sees may be anything: it must neither count nor overflow.
  const __m512 low = _mm512_maskz_mov_ps(static_cast<__mmask16>(visible), scales.low);
  const __m512 high = _mm512_maskz_mov_ps(static_cast<__mmask16>(visible >> 16), scales.high);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  // As integers NaN is larger than all numbers, and stays.
  const __m512i bits = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                                        _mm512_and_si512(_mm512_castps_si512(high), magnitude));
  const float largest = __builtin_bit_cast(float, _mm512_reduce_max_epi32(bits));
  const __m512 per = _mm512_set1_ps(numbersPer(largest));
  return {_mm512_mul_ps(low, per), _mm512_mul_ps(high, per), largest / kTopNumber};
}

// What a tile's values are weighted by, and what becomes of their sums so far:
// out = out * factor + unit * sum of numbers * codes.
struct Int8Weights {
  // [kTileQueries][4][2][4]: of every fourth token on, four of the first half and four of the second, as
  // packing two vectors of int32 leaves them.
  alignas(64) std::int16_t numbers[kTileQueries * kPageTokens];
  float factors[kTileQueries], units[kTileQueries];
};

// Where the numbers of token pair `pair` of half a page lie in a row of Int8Weights.
constexpr int placeOfPair(int half, int pair) { return pair / 2 * 8 + half * 4 + pair % 2 * 2; }

// For R queries from `first` on, step by step together. scores: [R][kPageTokens], each of which is
// number * keys of its token * units of its query in base 2
template <int R>
[[gnu::always_inline]] inline void int8Softmax(const QueryTile& tile, const std::uint32_t* visible,
                                               const std::int32_t* scores, const TokenScales& keys,
                                               const TokenScales& values, const ProbabilityNumbers& whole,
                                               int first, Int8Weights& weights) {
  static_assert(R <= 4);
  constexpr __mmask8 kQueries = (1 << R) - 1;
  const __m512 unseen = _mm512_set1_ps(-__builtin_inff());
  __m512 p0[R], p1[R], four[4];
  unroll<4>([&](auto r) { four[r] = _mm512_setzero_ps(); });
  unroll<R>([&](auto r) {
    const int query = first + r;
    const __m512 unit = _mm512_set1_ps(tile.units[query]);
    const __m512 s0 = _mm512_cvtepi32_ps(_mm512_loadu_si512(scores + query * kPageTokens));
    const __m512 s1 = _mm512_cvtepi32_ps(_mm512_loadu_si512(scores + query * kPageTokens + 16));
    p0[r] =
        _mm512_mask_mul_ps(unseen, static_cast<__mmask16>(visible[query]), s0, _mm512_mul_ps(unit, keys.low));
    p1[r] = _mm512_mask_mul_ps(unseen, static_cast<__mmask16>(visible[query] >> 16), s1,
                               _mm512_mul_ps(unit, keys.high));
    four[r] = _mm512_max_ps(p0[r], p1[r]);
  });
  const SoftmaxRise rise = raiseMaximum(
      tile, first, kQueries, reduceFour(four, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); }));

  unroll<R>([&](auto r) {
    const __m512 top = _mm512_set1_ps(rise.tops[r]);
    p0[r] = exp2Avx512(_mm512_sub_ps(p0[r], top));
    p1[r] = exp2Avx512(_mm512_sub_ps(p1[r], top));
    float* sum = tile.sum + (first + r) * kSumLanes;
    const __m512 earlier = _mm512_mul_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(rise.factors[r]));
    const __m512 both = _mm512_add_ps(p0[r], p1[r]);
    _mm512_storeu_ps(sum, _mm512_fmadd_ps(both, _mm512_set1_ps(rise.locals[r]), earlier));
  });
  if (!tile.out) return;

  unroll<R>([&](auto r) {
    const int query = first + r;
    const ProbabilityNumbers per =
        visible[query] == 0xffffffffu ? whole : probabilityNumbers(values, visible[query]);
    const __m512i numbers = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(p0[r], per.low)),
                                               _mm512_cvtps_epi32(_mm512_mul_ps(p1[r], per.high)));
    _mm512_storeu_si512(weights.numbers + query * kPageTokens, numbers);
    weights.factors[query] = rise.factors[r];
    weights.units[query] = per.unit * rise.locals[r];
  });
}

}  // namespace tandem::cpu
