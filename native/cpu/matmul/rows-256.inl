// Row kernels of processors with vectors of 256 bits: for AVX2 and for AVX-VNNI. Everything is in an unnamed
// namespace or always inlined, so that no code for one processor is linked into another's.

#include <immintrin.h>

#include <cstring>

#include "cpu/matmul/kernels.h"
#include "cpu/matmul/quantize.h"

namespace tandem::cpu {
namespace {

// 8 floats rounded to bf16, each in the lower half of its lane. As toBf16.
[[gnu::always_inline]] inline __m256i roundLanes(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x0040));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

void roundRow(const float* x, std::size_t count, bf16* out) {
  constexpr std::size_t kStep = 16;
  const auto round = [](const float* from) __attribute__((always_inline)) {
    const __m256i pairs =
        _mm256_packus_epi32(roundLanes(_mm256_loadu_ps(from)), roundLanes(_mm256_loadu_ps(from + 8)));
    return _mm256_permute4x64_epi64(pairs, 0b11011000);
  };
  std::size_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), round(x + i));
  }
  if (i == count) return;
  float rest[kStep] = {};
  std::memcpy(rest, x + i, (count - i) * sizeof(float));
  const __m256i rounded = round(rest);
  std::memcpy(out + i, &rounded, (count - i) * sizeof(bf16));
}

float quantizeGroup(const float* x, std::size_t count, std::int8_t* codes, std::int32_t (&sums)[kParts]) {
  float padded[kGroup];
  if (count < kGroup) {
    std::memset(padded, 0, sizeof padded);
    std::memcpy(padded, x, count * sizeof(float));
    x = padded;
  }
  // Without their signs floats compare as integers do, and NaN is the greatest: it must not get lost in a
  // code.
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i most = _mm256_setzero_si256();
  for (int i = 0; i < kGroup; i += 8) {
    most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
  }
  __m128i largest = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  largest = _mm_max_epi32(largest, _mm_shuffle_epi32(largest, 0b01001110));
  largest = _mm_max_epi32(largest, _mm_shuffle_epi32(largest, 0b10110001));
  const float scale = _mm_cvtss_f32(_mm_castsi128_ps(largest)) / 127;
  const __m256 inverse = _mm256_set1_ps(inverseOf(scale));
  const __m256 limit = _mm256_set1_ps(127);
  __m256i totals[kParts];
  for (int part = 0; part < kParts; ++part) {
    const int i = part * kPart;
    // Rounding of the inverse may carry the largest value a hair beyond 127; NaN goes to -127: of the two,
    // min and max return the second where either is NaN.
    const auto round = [&](int offset) __attribute__((always_inline)) {
      __m256 value = _mm256_mul_ps(_mm256_loadu_ps(x + i + offset), inverse);
      value = _mm256_max_ps(_mm256_min_ps(limit, value), _mm256_set1_ps(-127));
      return _mm256_cvtps_epi32(value);
    };
    // Packing works within halves of a register: the order is that of four values of each vector in turn.
    const __m256i first = round(0), second = round(8), third = round(16), fourth = round(24);
    totals[part] = _mm256_add_epi32(_mm256_add_epi32(first, second), _mm256_add_epi32(third, fourth));
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(first, second), _mm256_packs_epi32(third, fourth));
    const __m256i inOrder = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), inOrder);
  }
  const __m256i halves =
      _mm256_hadd_epi32(_mm256_hadd_epi32(totals[0], totals[1]), _mm256_hadd_epi32(totals[2], totals[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(sums),
                   _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
  return scale;
}

// As exp512 (vector-exp.h).
[[gnu::always_inline]] inline __m256 exp256(__m256 x) {
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.33654f)), _mm256_set1_ps(88.0f));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.3888889e-3f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3333333e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1666667e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666667e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

void swiGlu(const float* gate, const float* up, std::size_t count, float* y) {
  const auto product = [](const float* gates, const float* ups) __attribute__((always_inline)) {
    const __m256 g = _mm256_loadu_ps(gates);
    const __m256 e = exp256(_mm256_sub_ps(_mm256_setzero_ps(), g));
    const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1), e));
    return _mm256_mul_ps(silu, _mm256_loadu_ps(ups));
  };
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(y + i, product(gate + i, up + i));
  if (i == count) return;
  float gates[8] = {}, ups[8] = {};
  std::memcpy(gates, gate + i, (count - i) * sizeof(float));
  std::memcpy(ups, up + i, (count - i) * sizeof(float));
  const __m256 rest = product(gates, ups);
  std::memcpy(y + i, &rest, (count - i) * sizeof(float));
}

}  // namespace
}  // namespace tandem::cpu
