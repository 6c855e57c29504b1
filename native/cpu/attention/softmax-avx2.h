#pragma once

// What softmaxes of eight lanes have in common. Include only from files compiled for AVX2.

#include <immintrin.h>

#include <cstdint>

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

// The highest lane of each of four vectors.
[[gnu::always_inline]] inline __m128 highestOfFour(const __m256 (&v)[4]) {
  const __m256 first = _mm256_max_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
  const __m256 second = _mm256_max_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
  const __m256 lanes = _mm256_max_ps(_mm256_shuffle_ps(first, second, _MM_SHUFFLE(1, 0, 1, 0)),
                                     _mm256_shuffle_ps(first, second, _MM_SHUFFLE(3, 2, 3, 2)));
  return _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
}

// Of four lanes of memory the first R.
template <int R>
[[gnu::always_inline]] inline __m128i firstOfFour() {
  return _mm_setr_epi32(-1, R > 1 ? -1 : 0, R > 2 ? -1 : 0, R > 3 ? -1 : 0);
}

}  // namespace tandem::cpu
