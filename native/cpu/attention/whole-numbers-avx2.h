#pragma once

// Vectors of int16 from vectors of floats, and what they have in common. Include only from files compiled for
// AVX2.

#include <immintrin.h>

#include <cstdint>

#include "core/bf16.h"

namespace tandem::cpu {

// The largest magnitude among 16 lanes of bf16 of which the signs were dropped. NaN is larger than all.
[[gnu::always_inline]] inline float largestOf(__m256i magnitudes) {
  const __m128i half =
      _mm_max_epu16(_mm256_castsi256_si128(magnitudes), _mm256_extracti128_si256(magnitudes, 1));
  // The only such search there is finds the lowest.
  const __m128i lowest = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1)));
  const auto bits = static_cast<std::uint16_t>(~_mm_extract_epi16(lowest, 0));
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

// The largest magnitude of `count` bf16, a multiple of 16.
[[gnu::always_inline]] inline float largestOf(const bf16* values, int count) {
  __m256i largest = _mm256_setzero_si256();
  for (int i = 0; i < count; i += 16) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
    largest = _mm256_max_epu16(largest, _mm256_and_si256(bits, _mm256_set1_epi16(0x7fff)));
  }
  return largestOf(largest);
}

}  // namespace tandem::cpu
