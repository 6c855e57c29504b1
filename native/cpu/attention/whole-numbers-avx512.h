#pragma once

// Vectors of int16 from vectors of floats, and what they have in common. Include only from files compiled for
// AVX-512.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "core/bf16.h"
#include "cpu/attention/whole-numbers.h"

namespace tandem::cpu {

// Four neighbouring bytes in every lane.
[[gnu::always_inline]] inline __m512i broadcastFour(const void* bytes) {
  std::int32_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return _mm512_set1_epi32(bits);
}

// 16 bf16 as float32.
[[gnu::always_inline]] inline __m512 widened(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// 32 bf16 as float32: the first and the second of each pair.
struct WidePairs {
  __m512 even, odd;
};

[[gnu::always_inline]] inline WidePairs widenedPairs(__m512i pairs) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
          _mm512_castsi512_ps(_mm512_and_si512(pairs, upper))};
}

// The largest magnitude among 32 lanes of bf16 of which the signs were dropped. NaN is larger than all.
[[gnu::always_inline]] inline float largestOf(__m512i magnitudes) {
  __m256i half =
      _mm256_max_epu16(_mm512_castsi512_si256(magnitudes), _mm512_extracti64x4_epi64(magnitudes, 1));
  __m128i quarter = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  // The only such search there is finds the lowest.
  const __m128i lowest = _mm_minpos_epu16(_mm_xor_si128(quarter, _mm_set1_epi16(-1)));
  const auto bits = static_cast<std::uint16_t>(~_mm_extract_epi16(lowest, 0));
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

// The largest magnitude of `count` bf16, a multiple of 16.
[[gnu::always_inline]] inline float largestOf(const bf16* values, int count) {
  const __m512i magnitude = _mm512_set1_epi16(0x7fff);
  __m512i largest = _mm512_setzero_si512();
  for (int i = 0; i < count; i += 32) {
    const __mmask32 here = count - i >= 32 ? 0xffffffffu : 0xffffu;
    largest =
        _mm512_max_epu16(largest, _mm512_and_si512(_mm512_maskz_loadu_epi16(here, values + i), magnitude));
  }
  return largestOf(largest);
}

// numbers[i] = values[i] * factor, rounded, for `count` bf16, a multiple of 16.
[[gnu::always_inline]] inline void toNumbers(const bf16* values, int count, float factor,
                                             std::int16_t* numbers) {
  for (int i = 0; i < count; i += 16) {
    const __m512 x = widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i)));
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(factor)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(numbers + i), _mm512_cvtsepi32_epi16(rounded));
  }
}

// Four vectors reduced together, which takes a third of the instructions of one after the other: lane i of
// the result is all of vector i. The order of the operations is the same for each, whatever the others are.
template <class Combine>
[[gnu::always_inline]] inline __m128 reduceFour(const __m512 (&v)[4], Combine combine) {
  const __m512 first = combine(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 second = combine(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512 lanes = combine(_mm512_shuffle_ps(first, second, _MM_SHUFFLE(1, 0, 1, 0)),
                               _mm512_shuffle_ps(first, second, _MM_SHUFFLE(3, 2, 3, 2)));
  const __m512 pairs = combine(lanes, _mm512_shuffle_f32x4(lanes, lanes, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm512_castps512_ps128(combine(pairs, _mm512_shuffle_f32x4(pairs, pairs, _MM_SHUFFLE(2, 3, 0, 1))));
}

}  // namespace tandem::cpu
