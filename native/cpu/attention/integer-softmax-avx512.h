#pragma once

// The softmax of a tile of queries over one page of codes: from scores in whole numbers to probabilities in
// whole numbers. Include only from files compiled for AVX-512.

#include <immintrin.h>

#include <cstdint>

#include "cpu/attention/kernels.h"
#include "cpu/attention/softmax-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

// What a whole number of a score stands for: number * token * query + offset, in base 2.
struct ScoreUnits {
  __m512 low, high;  // of tokens 0..15 and 16..31
  float queries[kTileQueries];
  float offsets[kTileQueries];
};

// Scales of a page's values by token. A code that is `lift` times too large meets a probability that is so
// much smaller.
struct ValueScales {
  __m512 low, high;
  __m512 lowMiddles, highMiddles;  // of packed classes
  __m512 lifts;                    // by token, the same for both halves
  float level = 0;                 // what a code of a packed class is above zero
};

// Probabilities times value scales as whole numbers: their `unit` is such that the largest scale of a token
// that is seen becomes kTopNumber. A probability is relative to the page's highest, 1 at most.
struct ProbabilityNumbers {
  __m512 low, high;  // numbers per probability
  float unit;
};

[[gnu::always_inline]] inline ProbabilityNumbers probabilityNumbers(const ValueScales& scales,
                                                                    std::uint32_t visible) {
  // What nobody sees may be anything: it must neither count nor overflow.
  const __m512 low = _mm512_maskz_mov_ps(static_cast<__mmask16>(visible), scales.low);
  const __m512 high = _mm512_maskz_mov_ps(static_cast<__mmask16>(visible >> 16), scales.high);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  // As integers NaN is larger than all numbers, and stays.
  const __m512i bits = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                                        _mm512_and_si512(_mm512_castps_si512(high), magnitude));
  const float largest = __builtin_bit_cast(float, _mm512_reduce_max_epi32(bits));
  const __m512 per = _mm512_div_ps(_mm512_set1_ps(numbersPer(largest)), scales.lifts);
  return {_mm512_mul_ps(low, per), _mm512_mul_ps(high, per), largest / kTopNumber};
}

// What a tile's values are weighted by, and what becomes of their sums so far:
// out = out * factor + offset + unit * sum of numbers * codes.
struct IntegerWeights {
  // [kTileQueries][4][2][4]: of every fourth token on, four of the first half and four of the second, as
  // packing two vectors of int32 leaves them.
  alignas(64) std::int16_t numbers[kTileQueries * kPageTokens];
  float factors[kTileQueries], offsets[kTileQueries], units[kTileQueries];
};

// Where the numbers of token pair `pair` of half a page lie in a row of IntegerWeights.
constexpr int placeOfPair(int half, int pair) { return pair / 2 * 8 + half * 4 + pair % 2 * 2; }

// For R queries from `first` on, step by step together. scores: [R][kPageTokens]
template <int R, bool Packed>
[[gnu::always_inline]] inline void integerSoftmax(const QueryTile& tile, const std::uint32_t* visible,
                                                  const std::int32_t* scores, const ScoreUnits& units,
                                                  const ValueScales& values, const ProbabilityNumbers& whole,
                                                  int first, IntegerWeights& weights) {
  static_assert(R <= 4);
  constexpr __mmask8 kQueries = (1 << R) - 1;
  const __m512 unseen = _mm512_set1_ps(-__builtin_inff());
  __m512 p0[R], p1[R], four[4];
  unroll<4>([&](auto r) { four[r] = _mm512_setzero_ps(); });
  unroll<R>([&](auto r) {
    const int query = first + r;
    const __m512 unit = _mm512_set1_ps(units.queries[query]), offset = _mm512_set1_ps(units.offsets[query]);
    const __m512 s0 = _mm512_cvtepi32_ps(_mm512_loadu_si512(scores + query * kPageTokens));
    const __m512 s1 = _mm512_cvtepi32_ps(_mm512_loadu_si512(scores + query * kPageTokens + 16));
    p0[r] = _mm512_fmadd_ps(s0, _mm512_mul_ps(unit, units.low), offset);
    p1[r] = _mm512_fmadd_ps(s1, _mm512_mul_ps(unit, units.high), offset);
    p0[r] = _mm512_mask_mov_ps(unseen, static_cast<__mmask16>(visible[query]), p0[r]);
    p1[r] = _mm512_mask_mov_ps(unseen, static_cast<__mmask16>(visible[query] >> 16), p1[r]);
    four[r] = _mm512_max_ps(p0[r], p1[r]);
  });

  // The page's probabilities are relative to its own highest score. One of it and the one before is the new
  // maximum, and what belongs to the other shrinks.
  const __m128 before = _mm_maskz_loadu_ps(kQueries, tile.maximum + first);
  const __m128 here = _mm_max_ps(reduceFour(four, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); }),
                                 _mm_set1_ps(kNothingSeen));
  const __mmask8 rises = _mm_cmp_ps_mask(here, before, _CMP_GT_OQ);
  const __m128 highest = _mm_mask_mov_ps(before, rises, here), lower = _mm_mask_mov_ps(here, rises, before);
  const __m128 shrunk =
      _mm512_castps512_ps128(exp2Avx512(_mm512_zextps128_ps512(_mm_sub_ps(lower, highest))));
  const __m128 one = _mm_set1_ps(1);
  alignas(16) float tops[4], factors[4], locals[4];
  _mm_store_ps(tops, here);
  _mm_store_ps(factors, _mm_mask_mov_ps(one, rises, shrunk));
  _mm_store_ps(locals, _mm_mask_mov_ps(shrunk, rises, one));
  _mm_mask_storeu_ps(tile.maximum + first, kQueries, highest);

  unroll<R>([&](auto r) {
    const __m512 top = _mm512_set1_ps(tops[r]);
    p0[r] = exp2Avx512(_mm512_sub_ps(p0[r], top));
    p1[r] = exp2Avx512(_mm512_sub_ps(p1[r], top));
    float* sum = tile.sum + (first + r) * kSumLanes;
    const __m512 earlier = _mm512_mul_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(factors[r]));
    _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_add_ps(p0[r], p1[r]), _mm512_set1_ps(locals[r]), earlier));
  });
  if (!tile.out) return;

  unroll<R>([&](auto r) {
    const int query = first + r;
    const ProbabilityNumbers per =
        visible[query] == 0xffffffffu ? whole : probabilityNumbers(values, visible[query]);
    const __m512i numbers = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(p0[r], per.low)),
                                               _mm512_cvtps_epi32(_mm512_mul_ps(p1[r], per.high)));
    _mm512_storeu_si512(weights.numbers + query * kPageTokens, numbers);
    weights.factors[query] = factors[r];
    weights.units[query] = per.unit * locals[r];
    if constexpr (Packed) {
      // Lifts fit the packed order, which keeps four neighbouring tokens together.
      const __m512i lifts =
          _mm512_packs_epi32(_mm512_cvtps_epi32(values.lifts), _mm512_cvtps_epi32(values.lifts));
      const __m512i sums = _mm512_madd_epi16(numbers, lifts);
      const __m512 middles =
          _mm512_fmadd_ps(p1[r], values.highMiddles, _mm512_mul_ps(p0[r], values.lowMiddles));
      four[r] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(values.level * per.unit), middles);
    }
  });
  if constexpr (Packed) {
    const __m128 offsets = _mm_mul_ps(
        reduceFour(four, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); }), _mm_load_ps(locals));
    _mm_mask_storeu_ps(weights.offsets + first, kQueries, offsets);
  } else {
    _mm_mask_storeu_ps(weights.offsets + first, kQueries, _mm_setzero_ps());
  }
}

}  // namespace tandem::cpu
