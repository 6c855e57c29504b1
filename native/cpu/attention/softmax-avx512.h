#pragma once

// The softmax of a tile of queries over one page, shared by the AVX-512 and AMX attention. Include only from
// files compiled for AVX-512.

#include <immintrin.h>

#include <cstdint>

#include "cpu/attention/kernels.h"
#include "cpu/attention/softmax-rise.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

// 2^x for x <= 0: 2^round(x) * p(x - round(x)), p the minimax polynomial of degree 6 on [-0.5, 0.5] (relative
// error 3e-9, below float32's own rounding). Below 2^-126 the result is 0; NaN stays NaN.
[[gnu::always_inline]] inline __m512 exp2Avx512(__m512 x) {
  const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  const __m512 n = _mm512_maskz_roundscale_ps(normal, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_maskz_sub_ps(normal, x, n);
  __m512 p = _mm512_set1_ps(0.00015594678f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0013406644f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.009617693f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.055503106f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24022653f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.6931472f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(normal, p, n);
}

// For the queries of a mask of four from `first` on. One of the highest score here and the one before is the
// new maximum, and what belongs to the other shrinks.
[[gnu::always_inline]] inline SoftmaxRise raiseMaximum(const QueryTile& tile, int first, __mmask8 queries,
                                                       __m128 highestHere) {
  SoftmaxRise rise;
  const __m128 before = _mm_maskz_loadu_ps(queries, tile.maximum + first);
  const __m128 here = _mm_max_ps(highestHere, _mm_set1_ps(kNothingSeen));
  const __mmask8 rises = _mm_cmp_ps_mask(here, before, _CMP_GT_OQ);
  const __m128 highest = _mm_mask_mov_ps(before, rises, here), lower = _mm_mask_mov_ps(here, rises, before);
  const __m128 shrunk =
      _mm512_castps512_ps128(exp2Avx512(_mm512_zextps128_ps512(_mm_sub_ps(lower, highest))));
  const __m128 one = _mm_set1_ps(1);
  _mm_store_ps(rise.tops, here);
  _mm_store_ps(rise.factors, _mm_mask_mov_ps(one, rises, shrunk));
  _mm_store_ps(rise.locals, _mm_mask_mov_ps(shrunk, rises, one));
  _mm_mask_storeu_ps(tile.maximum + first, queries, highest);
  return rise;
}

// softmaxPage for R queries from `first` on, step by step together: one query's steps wait for each other.
template <int R, class Weights>
[[gnu::always_inline]] inline void softmaxQueries(const QueryTile tile, const PageTile page, int first,
                                                  const float* scores, Weights& weights) {
  const __m512 unseen = _mm512_set1_ps(-__builtin_inff());
  __m512 keyScale0 = _mm512_set1_ps(tile.scale), keyScale1 = keyScale0;
  if (page.keyScales) {
    keyScale0 = _mm512_mul_ps(keyScale0, _mm512_loadu_ps(page.keyScales));
    keyScale1 = _mm512_mul_ps(keyScale1, _mm512_loadu_ps(page.keyScales + 16));
  }
  __m512 p0[R], p1[R], factor[R];
  float highest[R];
  unroll<R>([&](auto r) {
    const int query = first + r;
    const std::uint32_t visible = page.visible[query];
    const __m512 keyOffset = _mm512_set1_ps(page.keyOffsets ? page.keyOffsets[query] : 0.0f);
    const __m512 s0 = _mm512_add_ps(_mm512_loadu_ps(scores + query * kPageTokens), keyOffset);
    const __m512 s1 = _mm512_add_ps(_mm512_loadu_ps(scores + query * kPageTokens + 16), keyOffset);
    p0[r] = _mm512_mask_mul_ps(unseen, static_cast<__mmask16>(visible), s0, keyScale0);
    p1[r] = _mm512_mask_mul_ps(unseen, static_cast<__mmask16>(visible >> 16), s1, keyScale1);
  });
  unroll<R>([&](auto r) {
    const float before = tile.maximum[first + r];
    const float here = _mm512_reduce_max_ps(_mm512_max_ps(p0[r], p1[r]));
    highest[r] = here > before ? here : before;
    factor[r] = _mm512_set1_ps(before - highest[r]);
  });
  unroll<R>([&](auto r) {
    const __m512 top = _mm512_set1_ps(highest[r]);
    p0[r] = exp2Avx512(_mm512_sub_ps(p0[r], top));
    p1[r] = exp2Avx512(_mm512_sub_ps(p1[r], top));
    factor[r] = exp2Avx512(factor[r]);
  });
  unroll<R>([&](auto r) {
    const int query = first + r;
    tile.maximum[query] = highest[r];
    weights.factors[query] = _mm512_cvtss_f32(factor[r]);
    float* sum = tile.sum + query * kSumLanes;
    _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), factor[r], _mm512_add_ps(p0[r], p1[r])));
    weights.offsets[query] = 0;
    if (page.valueMiddles) {
      const __m512 middle0 = _mm512_mul_ps(p0[r], _mm512_loadu_ps(page.valueMiddles));
      weights.offsets[query] =
          _mm512_reduce_add_ps(_mm512_fmadd_ps(p1[r], _mm512_loadu_ps(page.valueMiddles + 16), middle0));
    }
    if (page.valueScales) {
      p0[r] = _mm512_mul_ps(p0[r], _mm512_loadu_ps(page.valueScales));
      p1[r] = _mm512_mul_ps(p1[r], _mm512_loadu_ps(page.valueScales + 16));
    }
    weights.set(query, p0[r], p1[r]);
  });
}

// scores [kTileQueries][kPageTokens], raw dot products, become probabilities, which weights.set(query, ...)
// takes by token; weights.factors [kTileQueries] is what the earlier sums are to be multiplied by, and
// weights.offsets [kTileQueries] what is to be added to them for the values' middles. Updates the tile's
// maxima and sums. `Weights` is a type of the instruction set, as whose code this is linked.
template <class Weights>
[[gnu::always_inline]] inline void softmaxPage(const QueryTile& tile, const PageTile& page,
                                               const float* scores, Weights& weights) {
  int query = 0;
  for (; query + 4 <= tile.queries; query += 4) softmaxQueries<4>(tile, page, query, scores, weights);
  for (; query < tile.queries; ++query) softmaxQueries<1>(tile, page, query, scores, weights);
}

}  // namespace tandem::cpu
