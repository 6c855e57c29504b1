#include <algorithm>

#include "cpu/matmul/tiles-avx512.inl"

namespace tandem::cpu {
namespace {

// Without BF16 a pair's products are two FMAs of float32. Weights are widened once for all rows of a tile,
// the even ones of four vectors and then the odd ones, since 24 sums leave no registers for both.
struct Products {
  using Input = float;

  template <int Rows>
  [[gnu::always_inline]] static void step(__m512* sums, const bf16* panel, const float* a,
                                          std::size_t stride) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    __m512 b[kVectors];
    const auto multiply = [&](const float* x) __attribute__((always_inline)) {
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        const __m512 input = _mm512_set1_ps(x[row * stride]);
        unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
          sums[row * kVectors + v] = _mm512_fmadd_ps(b[v], input, sums[row * kVectors + v]);
        });
      });
    };
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      b[v] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(panel + v * 32), 16));
    });
    multiply(a);
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      b[v] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_load_si512(panel + v * 32), upper));
    });
    multiply(a + 1);
  }
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/matmul/bf16-tile-avx512.inl"
#include "cpu/matmul/integers-avx512.h"
#include "cpu/matmul/rows-avx512.h"

namespace tandem::cpu {
namespace {

// Inputs that are widened at once: of a tile's rows they fill 6 KB of L1, and calls have no more.
constexpr std::size_t kDepth = 256;

void widen(int rows, const bf16* a, std::size_t stride, std::size_t inputs, float* out) {
  for (int row = 0; row < rows; ++row, a += stride, out += kDepth) {
    for (std::size_t k = 0; k < inputs; k += 16) {
      const __mmask16 lanes = avx512::firstLanes(inputs - k);
      const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, a + k));
      _mm512_store_si512(out + k, _mm512_slli_epi32(bits, 16));
    }
  }
}

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             Ahead ahead, float* c) {
  alignas(64) float wide[kTileRows * kDepth];
  for (std::size_t k = 0; k < inputs; k += kDepth) {
    const std::size_t depth = std::min(kDepth, inputs - k);
    widen(rows, a + k, stride, depth, wide);
    withConstants(rows, ahead.linesPerStep, [&](auto height, auto lines) {
      bf16Tile<height, lines>(wide, kDepth, panel + k * kPanel, depth, first && k == 0,
                              ahead.from + k / 2 * lines * 64, c);
    });
  }
}

// To nearest, ties to even; NaN stays NaN.
void roundRow(const float* x, std::size_t count, bf16* out) {
  const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff), quiet = _mm512_set1_epi32(0x40);
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = avx512::firstLanes(count - i);
    const __m512 value = _mm512_maskz_loadu_ps(lanes, x + i);
    const __m512i bits = _mm512_castps_si512(value), truncated = _mm512_srli_epi32(bits, 16);
    const __m512i up = _mm512_add_epi32(half, _mm512_and_si512(truncated, one));
    const __m512i rounded =
        _mm512_mask_or_epi32(_mm512_srli_epi32(_mm512_add_epi32(bits, up), 16),
                             _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), truncated, quiet);
    _mm256_mask_storeu_epi16(out + i, lanes, _mm512_cvtepi32_epi16(rounded));
  }
}

}  // namespace

const Kernels kAvx512VnniKernels{kTileRows,       true,    bf16Dot,  avx512::int8Dot,
                                 avx512::int4Dot, nullptr, roundRow, avx512::quantizeGroup,
                                 avx512::swiGlu};

}  // namespace tandem::cpu
