#include "cpu/matmul/rows-avx512.h"

#include "cpu/matmul/matmul.h"
#include "cpu/matmul/quantize.h"
#include "cpu/vector-exp.h"

namespace tandem::cpu::avx512 {

float quantizeGroup(const float* x, std::size_t count, std::int8_t* codes, std::int32_t (&sums)[kParts]) {
  constexpr int kVectors = kGroup / 16;
  __m512 values[kVectors];
  // Without their signs floats compare as integers do, and NaN is the greatest: it must not get lost in a
  // code.
  __m512i largest = _mm512_setzero_si512();
  for (int i = 0; i < kVectors; ++i) {
    const std::size_t done = std::size_t(i) * 16;
    values[i] = _mm512_maskz_loadu_ps(done < count ? firstLanes(count - done) : __mmask16(0), x + done);
    largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(values[i])));
  }
  const float scale = std::bit_cast<float>(_mm512_reduce_max_epi32(largest)) / 127;
  const __m512 inverse = _mm512_set1_ps(inverseOf(scale));
  for (int part = 0; part < kParts; ++part) {
    __m512i total = _mm512_setzero_si512();
    for (int i = part * kPart / 16; i < (part + 1) * kPart / 16; ++i) {
      __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(values[i], inverse));
      code = _mm512_max_epi32(_mm512_min_epi32(code, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
      total = _mm512_add_epi32(total, code);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i * 16), _mm512_cvtepi32_epi8(code));
    }
    sums[part] = _mm512_reduce_add_epi32(total);
  }
  return scale;
}

void swiGlu(const float* gate, const float* up, std::size_t count, float* y) {
  const __m512 one = _mm512_set1_ps(1);
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = firstLanes(count - i);
    const __m512 g = _mm512_maskz_loadu_ps(lanes, gate + i);
    const __m512 e = exp512(_mm512_sub_ps(_mm512_setzero_ps(), g));
    const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, e));
    _mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(lanes, up + i)));
  }
}

}  // namespace tandem::cpu::avx512
