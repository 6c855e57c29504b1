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

// Asks for a step's lines of what is read later.
template <int Lines>
[[gnu::always_inline]] inline void prefetchStep(const char*& ahead) {
  // What many tiles ask for, a line each, comes long before it is read, and would push their panel out.
  constexpr auto kWhere = Lines == 1 ? _MM_HINT_T1 : _MM_HINT_T0;
  unroll<Lines>([&](auto line) __attribute__((always_inline)) { _mm_prefetch(ahead + line * 64, kWhere); });
  ahead += Lines * 64;
}

template <int Rows, int Lines>
void bf16Tile(const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
              const char* ahead, float* c) {
  __m512 sums[Rows * kVectors];
  unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) {
    sums[i] = first ? _mm512_setzero_ps() : _mm512_load_ps(c + i * 16);
  });
#pragma GCC unroll 1
  for (std::size_t k = 0; k < inputs; k += 2) {
    prefetchStep<Lines>(ahead);
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

// Calls body with the tile height and the lines to prefetch a step as constants.
template <class Body>
void withConstants(int rows, int lines, Body body) {
  const auto withLines = [&](auto height) {
    switch (lines) {
      case 0:
        return body(height, std::integral_constant<int, 0>{});
      case 1:
        return body(height, std::integral_constant<int, 1>{});
      case 2:
        return body(height, std::integral_constant<int, 2>{});
      default:
        return body(height, std::integral_constant<int, kVectors>{});
    }
  };
  switch (rows) {
    case 1:
      return withLines(std::integral_constant<int, 1>{});
    case 2:
      return withLines(std::integral_constant<int, 2>{});
    case 3:
      return withLines(std::integral_constant<int, 3>{});
    case 4:
      return withLines(std::integral_constant<int, 4>{});
    case 5:
      return withLines(std::integral_constant<int, 5>{});
    default:
      return withLines(std::integral_constant<int, kTileRows>{});
  }
}

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             Ahead ahead, float* c) {
  withConstants(rows, ahead.linesPerStep, [&](auto height, auto lines) {
    bf16Tile<height, lines>(a, stride, panel, inputs, first, ahead.from, c);
  });
}

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

}  // namespace

const Kernels kAvx512Kernels{
    kTileRows, true, bf16Dot, int8Dot, int4Dot, avx512::roundRow, avx512::quantizeGroup, avx512::swiGlu};

}  // namespace tandem::cpu
