// The 16 vector registers hold a quarter panel (16 outputs, two vectors) for 4 rows: 8 sums, and the rest for
// operands.

#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "cpu/matmul/kernels.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

constexpr int kTileRows = 4;
constexpr int kQuarter = 16;
constexpr int kVectors = kQuarter / 8;

[[gnu::always_inline]] inline __m256i load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

template <int Rows>
void bf16Tile(const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
              float* c) {
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  for (int column = 0; column < kPanel; column += kQuarter) {
    __m256 sums[Rows * kVectors];
    unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) {
      sums[i] = first ? _mm256_setzero_ps()
                      : _mm256_loadu_ps(c + i / kVectors * kPanel + column + i % kVectors * 8);
    });
    for (std::size_t k = 0; k < inputs; k += 2) {
      __m256 even[kVectors], odd[kVectors];
      unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
        const __m256i pairs = load(panel + (k / 2 * kPanel + column + v * 8) * 2);
        even[v] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
        odd[v] = _mm256_castsi256_ps(_mm256_and_si256(pairs, high));
      });
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        const __m256 x0 = _mm256_set1_ps(toFloat(a[row * stride + k]));
        const __m256 x1 = _mm256_set1_ps(toFloat(a[row * stride + k + 1]));
        unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
          __m256& sum = sums[row * kVectors + v];
          sum = _mm256_fmadd_ps(x1, odd[v], _mm256_fmadd_ps(x0, even[v], sum));
        });
      });
    }
    unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) {
      _mm256_storeu_ps(c + i / kVectors * kPanel + column + i % kVectors * 8, sums[i]);
    });
  }
}

// Adds u8 weights . s8 inputs, four products a lane. The bytes are widened to 16 bits first: multiplied as
// bytes they could saturate.
[[gnu::always_inline]] inline __m256i dot4(__m256i sum, __m256i even, __m256i odd, __m256i xEven,
                                           __m256i xOdd) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, xEven));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(odd, xOdd));
}

template <int Rows, bool kInt4>
void integerTile(const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
                 const std::uint8_t* panel, const float* scales, float* c) {
  constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / (kInt4 ? 2 : 1);
  const __m256i bytes = _mm256_set1_epi16(0x00ff);
  const __m256i low = _mm256_set1_epi8(15);
  for (std::size_t group = groupBegin; group < groupEnd; ++group) {
    for (int column = 0; column < kPanel; column += kQuarter) {
      __m256i dots[Rows * kVectors];
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
          dots[row * kVectors + v] = _mm256_set1_epi32(a.corrections[row * a.groups + group]);
        });
      });
      const auto step = [&](const __m256i* codes, const std::int8_t* inputs) __attribute__((always_inline)) {
        __m256i even[kVectors], odd[kVectors];
        unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
          even[v] = _mm256_and_si256(codes[v], bytes);
          odd[v] = _mm256_srli_epi16(codes[v], 8);
        });
        unroll<Rows>([&](auto row) __attribute__((always_inline)) {
          int word;
          std::memcpy(&word, inputs + row * a.stride, sizeof word);
          const __m256i x = _mm256_set1_epi32(word);
          const __m256i xEven = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
          const __m256i xOdd = _mm256_srai_epi16(x, 8);
          unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
            __m256i& dot = dots[row * kVectors + v];
            dot = dot4(dot, even[v], odd[v], xEven, xOdd);
          });
        });
      };
      const std::int8_t* inputs = a.codes + group * kGroup;
      const std::uint8_t* codes = panel + group * kGroupBytes + column * 4;
      for (int k = 0; k < kGroup; k += kInt4 ? 8 : 4, codes += kPanel * 4) {
        __m256i b[kVectors];
        if constexpr (kInt4) {
          unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
            b[v] = _mm256_and_si256(load(codes + v * 32), low);
          });
          step(b, inputs + k);
          unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
            b[v] = _mm256_and_si256(_mm256_srli_epi16(load(codes + v * 32), 4), low);
          });
          step(b, inputs + k + 4);
        } else {
          unroll<kVectors>([&](auto v) __attribute__((always_inline)) { b[v] = load(codes + v * 32); });
          step(b, inputs + k);
        }
      }
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
          float* out = c + row * kPanel + column + v * 8;
          const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(scales + group * kPanel + column + v * 8),
                                             _mm256_set1_ps(a.scales[row * a.groups + group]));
          const __m256 before = group == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(out);
          _mm256_storeu_ps(out, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[row * kVectors + v]), scale, before));
        });
      });
    }
  }
}

template <class Body>
void withRows(int rows, Body body) {
  switch (rows) {
    case 1:
      return body(std::integral_constant<int, 1>{});
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    default:
      return body(std::integral_constant<int, kTileRows>{});
  }
}

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             Ahead, float* c) {
  withRows(rows, [&](auto height) { bf16Tile<height>(a, stride, panel, inputs, first, c); });
}

void int8Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead, float* c) {
  withRows(rows, [&](auto height) { integerTile<height, false>(a, groupBegin, groupEnd, panel, scales, c); });
}

void int4Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead, float* c) {
  withRows(rows, [&](auto height) { integerTile<height, true>(a, groupBegin, groupEnd, panel, scales, c); });
}

}  // namespace

// Activations are a small part of the bytes; their plain kernels vectorize well enough.
const Kernels kAvx2Kernels{kTileRows,
                           false,
                           bf16Dot,
                           int8Dot,
                           int4Dot,
                           kPortableKernels.roundRow,
                           kPortableKernels.quantizeGroup,
                           kPortableKernels.swiGlu};

}  // namespace tandem::cpu
