#include <immintrin.h>

#include "cpu/attention/attention-avx2.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/whole-numbers-avx2.h"
#include "cpu/attention/whole-numbers.h"

namespace tandem::cpu {

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
