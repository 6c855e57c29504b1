#include "cpu/matmul/integers-avx512.h"

#include "cpu/matmul/tiles-avx512.inl"

namespace tandem::cpu {
namespace {

// 16 sums of 32 bits. Not __m512i, whose lanes are 64 bits wide to GCC: it then moves sums to the stack and
// back in every step, at less than half the speed.
using Sums = std::int32_t __attribute__((vector_size(64)));

// sum += u8 codes . s8 codes, four products a lane
[[gnu::always_inline]] inline void dot4(Sums& sum, __m512i weights, __m512i inputs) {
  sum = (Sums)_mm512_dpbusd_epi32((__m512i)sum, weights, inputs);
}

// dots += panel codes of one group . the rows' codes
template <int Rows, int Lines>
[[gnu::always_inline]] inline void int8Group(Sums* dots, const std::int8_t* a, std::size_t stride,
                                             const std::uint8_t* panel, const char*& ahead) {
#pragma GCC unroll 1
  for (int k = 0; k < kGroup; k += 4) {
    prefetchStep<Lines>(ahead);
    __m512i b[kVectors];
    unroll<kVectors>([&](auto v)
                         __attribute__((always_inline)) { b[v] = _mm512_load_si512(panel + v * 64); });
    unroll<Rows>([&](auto row) __attribute__((always_inline)) {
      const __m512i x = broadcast4(a + row * stride);
      unroll<kVectors>([&](auto v)
                           __attribute__((always_inline)) { dot4(dots[row * kVectors + v], b[v], x); });
    });
    panel += kPanel * 4;
    a += 4;
  }
}

template <int Rows, int Lines>
[[gnu::always_inline]] inline void int4Group(Sums* dots, const std::int8_t* a, std::size_t stride,
                                             const std::uint8_t* panel, const char*& ahead) {
  const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 1
  for (int k = 0; k < kGroup; k += 8) {
    prefetchStep<Lines>(ahead);
    __m512i b[kVectors];
    const auto multiply = [&](int offset) __attribute__((always_inline)) {
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        const __m512i x = broadcast4(a + row * stride + offset);
        unroll<kVectors>([&](auto v)
                             __attribute__((always_inline)) { dot4(dots[row * kVectors + v], b[v], x); });
      });
    };
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      b[v] = _mm512_and_si512(_mm512_load_si512(panel + v * 64), low);
    });
    multiply(0);
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      b[v] = _mm512_and_si512(_mm512_srli_epi16(_mm512_load_si512(panel + v * 64), 4), low);
    });
    multiply(4);
    panel += kPanel * 4;
    a += 8;
  }
}

template <int Rows, int Lines, bool kInt4>
void integerTile(const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
                 const std::uint8_t* panel, const float* scales, const char* ahead, float* c) {
  constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / (kInt4 ? 2 : 1);
  for (std::size_t group = groupBegin; group < groupEnd; ++group) {
    const char* laterScales = reinterpret_cast<const char*>(scales + group * kPanel) + 4096;
    prefetchStep<kVectors>(laterScales);
    Sums dots[Rows * kVectors];
    unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) { dots[i] = Sums{}; });
    const std::int8_t* codes = a.codes + group * kGroup;
    if constexpr (kInt4) {
      int4Group<Rows, Lines>(dots, codes, a.stride, panel + group * kGroupBytes, ahead);
    } else {
      int8Group<Rows, Lines>(dots, codes, a.stride, panel + group * kGroupBytes, ahead);
    }
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      const __m512 weightScale = _mm512_load_ps(scales + group * kPanel + v * 16);
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        float* out = c + row * kPanel + v * 16;
        const __m512 scale = _mm512_mul_ps(weightScale, _mm512_set1_ps(a.scales[row * a.groups + group]));
        const __m512 before = group == 0 ? _mm512_setzero_ps() : _mm512_load_ps(out);
        const auto dot = (__m512i)(dots[row * kVectors + v] + a.corrections[row * a.groups + group]);
        _mm512_store_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, before));
      });
    });
  }
}

}  // namespace

namespace avx512 {

void int8Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead ahead, float* c) {
  withConstants(rows, ahead.linesPerStep, [&](auto height, auto lines) {
    integerTile<height, lines, false>(a, groupBegin, groupEnd, panel, scales, ahead.from, c);
  });
}

void int4Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead ahead, float* c) {
  withConstants(rows, ahead.linesPerStep, [&](auto height, auto lines) {
    integerTile<height, lines, true>(a, groupBegin, groupEnd, panel, scales, ahead.from, c);
  });
}

}  // namespace avx512

}  // namespace tandem::cpu
