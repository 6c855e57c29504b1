#include <immintrin.h>

#include "cpu/attention/attention-avx2.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/whole-numbers.h"

namespace tandem::cpu {
namespace {

// The largest magnitude of `count` bf16, a multiple of 16. NaN is larger than all.
float largestOf(const bf16* values, int count) {
  __m256i largest = _mm256_setzero_si256();
  for (int i = 0; i < count; i += 16) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
    largest = _mm256_max_epu16(largest, _mm256_and_si256(bits, _mm256_set1_epi16(0x7fff)));
  }
  const __m128i half = _mm_max_epu16(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  // The only such search there is finds the lowest.
  const __m128i lowest = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1)));
  const auto bits = static_cast<std::uint16_t>(~_mm_extract_epi16(lowest, 0));
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace

void quantizeQueriesAvx2(const QueryNumbers& queries) {
  for (int query = 0; query < queries.queries; ++query) {
    const bf16* q = queries.q + static_cast<std::size_t>(query) * queries.stride;
    std::int16_t* numbers = queries.numbers + query * kNumbersStride;
    const float largest = largestOf(q, queries.stride);
    const __m256 per = _mm256_set1_ps(numbersPer(largest));
    for (int channel = 0; channel < queries.stride; channel += 8) {
      const __m256i rounded = _mm256_cvtps_epi32(_mm256_mul_ps(widen(q + channel), per));
      _mm_storeu_si128(
          reinterpret_cast<__m128i*>(numbers + channel),
          _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
    }
    queries.units[query] = largest / kTopNumber;
  }
}

}  // namespace tandem::cpu
