// A tile is up to 6 rows by 64 outputs: 24 of the 32 vector registers hold sums, 4 the panel's present step,
// and one a row's broadcast inputs. Two dot products start a cycle; a step of 24 needs 10 loads, so the loads
// keep up.

#include "cpu/matmul/kernels-avx512.h"

#include <array>

#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

constexpr int kTileRows = 6;
constexpr int kVectors = kPanel / 16;

[[gnu::always_inline]] inline __m512i broadcast4(const void* bytes) {
  int word;
  std::memcpy(&word, bytes, sizeof word);
  return _mm512_set1_epi32(word);
}

// 16 sums of 32 bits. Not __m512i, whose lanes are 64 bits wide to GCC: it then moves sums to the stack and
// back in every step, at less than half the speed.
using Sums = std::int32_t __attribute__((vector_size(64)));

// sum += u8 codes . s8 codes, four products a lane
[[gnu::always_inline]] inline void dot4(Sums& sum, __m512i weights, __m512i inputs) {
  sum = (Sums)_mm512_dpbusd_epi32((__m512i)sum, weights, inputs);
}

// Asks for the panel's bytes of some steps ahead. Without it a few rows' steps, each a cache miss after the
// other, leave a tenth of the memory's bandwidth unused (bench-matmul); many rows do not mind.
[[gnu::always_inline]] inline void prefetchStep(const void* panel) {
  constexpr std::size_t kAhead = 4096;
  unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
    _mm_prefetch(static_cast<const char*>(panel) + kAhead + v * 64, _MM_HINT_T0);
  });
}

template <int Rows>
void bf16Tile(const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
              float* c) {
  __m512 sums[Rows * kVectors];
  unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) {
    sums[i] = first ? _mm512_setzero_ps() : _mm512_load_ps(c + i * 16);
  });
#pragma GCC unroll 1
  for (std::size_t k = 0; k < inputs; k += 2) {
    prefetchStep(panel + k * kPanel);
    __m512bh b[kVectors];
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      b[v] = (__m512bh)_mm512_load_si512(panel + (k / 2 * kPanel + v * 16) * 2);
    });
    unroll<Rows>([&](auto row) __attribute__((always_inline)) {
      const auto x = (__m512bh)broadcast4(a + row * stride + k);
      unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
        sums[row * kVectors + v] = _mm512_dpbf16_ps(sums[row * kVectors + v], b[v], x);
      });
    });
  }
  unroll<Rows * kVectors>([&](auto i)
                              __attribute__((always_inline)) { _mm512_store_ps(c + i * 16, sums[i]); });
}

// dots += panel codes of one group . the rows' codes
template <int Rows>
[[gnu::always_inline]] inline void int8Group(Sums* dots, const std::int8_t* a, std::size_t stride,
                                             const std::uint8_t* panel) {
#pragma GCC unroll 1
  for (int k = 0; k < kGroup; k += 4) {
    prefetchStep(panel);
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

template <int Rows>
[[gnu::always_inline]] inline void int4Group(Sums* dots, const std::int8_t* a, std::size_t stride,
                                             const std::uint8_t* panel) {
  const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 1
  for (int k = 0; k < kGroup; k += 8) {
    prefetchStep(panel);
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

template <int Rows, bool kInt4>
void integerTile(const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
                 const std::uint8_t* panel, const float* scales, float* c) {
  constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / (kInt4 ? 2 : 1);
  for (std::size_t group = groupBegin; group < groupEnd; ++group) {
    prefetchStep(scales + group * kPanel);
    Sums dots[Rows * kVectors];
    unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) { dots[i] = Sums{}; });
    const std::int8_t* codes = a.codes + group * kGroup;
    if constexpr (kInt4) {
      int4Group<Rows>(dots, codes, a.stride, panel + group * kGroupBytes);
    } else {
      int8Group<Rows>(dots, codes, a.stride, panel + group * kGroupBytes);
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

// Calls body with the tile height as a constant.
template <class Body>
void withRows(int rows, Body body) {
  switch (rows) {
    case 1:
      return body(std::integral_constant<int, 1>{});
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 5:
      return body(std::integral_constant<int, 5>{});
    default:
      return body(std::integral_constant<int, kTileRows>{});
  }
}

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             float* c) {
  withRows(rows, [&](auto height) { bf16Tile<height>(a, stride, panel, inputs, first, c); });
}

void int8Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, float* c) {
  withRows(rows, [&](auto height) { integerTile<height, false>(a, groupBegin, groupEnd, panel, scales, c); });
}

void int4Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, float* c) {
  withRows(rows, [&](auto height) { integerTile<height, true>(a, groupBegin, groupEnd, panel, scales, c); });
}

}  // namespace

const Kernels kAvx512Kernels{
    kTileRows, bf16Dot, int8Dot, int4Dot, avx512::roundRow, avx512::quantizeGroup, avx512::swiGlu};

}  // namespace tandem::cpu
