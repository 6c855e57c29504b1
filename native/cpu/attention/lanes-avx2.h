#pragma once

// Eight lanes of 32 bits. Include only from files compiled for AVX2.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "core/bf16.h"

namespace tandem::cpu {

// Four neighbouring bytes in every lane.
[[gnu::always_inline]] inline __m256i broadcastFour(const void* bytes) {
  std::int32_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return _mm256_set1_epi32(bits);
}

// 8 bf16 as float32.
[[gnu::always_inline]] inline __m256 widen(const bf16* source) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// A vector of bf16 pairs as two of float32: the first of each pair, and the second.
[[gnu::always_inline]] inline __m256i loadPairs(const bf16* pairs) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pairs));
}
[[gnu::always_inline]] inline __m256 firsts(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}
[[gnu::always_inline]] inline __m256 seconds(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

[[gnu::always_inline]] inline float reduceMax(__m256 x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

[[gnu::always_inline]] inline float reduceAdd(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// The first R of four lanes of 32 bits.
template <int R>
[[gnu::always_inline]] inline __m128i firstOfFour() {
  return _mm_setr_epi32(-1, R > 1 ? -1 : 0, R > 2 ? -1 : 0, R > 3 ? -1 : 0);
}

struct AddLanes {
  [[gnu::always_inline]] __m256 operator()(__m256 a, __m256 b) const { return _mm256_add_ps(a, b); }
};
struct MaxLanes {
  [[gnu::always_inline]] __m256 operator()(__m256 a, __m256 b) const { return _mm256_max_ps(a, b); }
};

// Four vectors reduced together: lane i of the result is all of vector i. The order of the operations is the
// same for each, whatever the others are.
template <class Combine>
[[gnu::always_inline]] inline __m128 reduceFour(const __m256 (&v)[4], Combine combine) {
  const __m256 first = combine(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
  const __m256 second = combine(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
  const __m256 lanes = combine(_mm256_shuffle_ps(first, second, _MM_SHUFFLE(1, 0, 1, 0)),
                               _mm256_shuffle_ps(first, second, _MM_SHUFFLE(3, 2, 3, 2)));
  return _mm256_castps256_ps128(combine(lanes, _mm256_permute2f128_ps(lanes, lanes, 1)));
}

}  // namespace tandem::cpu
