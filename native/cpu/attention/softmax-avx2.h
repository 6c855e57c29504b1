#pragma once

// What softmaxes of eight lanes have in common. Include only from files compiled for AVX2.

#include <immintrin.h>

#include <cstdint>

#include "cpu/attention/kernels.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/softmax-rise.h"

namespace tandem::cpu {

// As exp2Avx512: minimax of degree 6, 0 below 2^-126, NaN stays NaN.
[[gnu::always_inline]] inline __m256 exp2Avx2(__m256 x) {
  const __m256 normal = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ);
  x = _mm256_and_ps(x, normal);
  const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 r = _mm256_sub_ps(x, n);
  __m256 p = _mm256_set1_ps(0.00015594678f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.0013406644f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.009617693f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.055503106f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.24022653f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.6931472f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  const __m256i exponent =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(exponent)), normal);
}

// All ones in the lanes whose bit of `bits` is set.
[[gnu::always_inline]] inline __m256 laneMask(std::uint32_t bits) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(
      _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lanes), lanes));
}

// For R of four queries. One of the highest score here and the one before is the new maximum, and what
// belongs to the other shrinks.
template <int R>
[[gnu::always_inline]] inline SoftmaxRise raiseMaximum(float* maxima, __m128 highestHere) {
  SoftmaxRise rise;
  const __m128i queries = firstOfFour<R>();
  const __m128 before = _mm_maskload_ps(maxima, queries);
  const __m128 here = _mm_max_ps(highestHere, _mm_set1_ps(kNothingSeen));
  const __m128 rises = _mm_cmp_ps(here, before, _CMP_GT_OQ);
  const __m128 highest = _mm_blendv_ps(before, here, rises), lower = _mm_blendv_ps(here, before, rises);
  const __m128 shrunk = _mm256_castps256_ps128(exp2Avx2(_mm256_zextps128_ps256(_mm_sub_ps(lower, highest))));
  const __m128 one = _mm_set1_ps(1);
  _mm_store_ps(rise.tops, here);
  _mm_store_ps(rise.factors, _mm_blendv_ps(one, shrunk, rises));
  _mm_store_ps(rise.locals, _mm_blendv_ps(shrunk, one, rises));
  _mm_maskstore_ps(maxima, queries, highest);
  return rise;
}

}  // namespace tandem::cpu
