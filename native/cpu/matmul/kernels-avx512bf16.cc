#include "cpu/matmul/tiles-avx512.inl"

namespace tandem::cpu {
namespace {

struct Products {
  using Input = bf16;

  template <int Rows>
  [[gnu::always_inline]] static void step(__m512* sums, const bf16* panel, const bf16* a,
                                          std::size_t stride) {
    __m512bh b[kVectors];
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      b[v] = (__m512bh)_mm512_load_si512(panel + v * 32);
    });
    unroll<Rows>([&](auto row) __attribute__((always_inline)) {
      const auto x = (__m512bh)broadcast4(a + row * stride);
      unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
        sums[row * kVectors + v] = _mm512_dpbf16_ps(sums[row * kVectors + v], b[v], x);
      });
    });
  }
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/matmul/bf16-tile-avx512.inl"
#include "cpu/matmul/integers-avx512.h"
#include "cpu/matmul/rows-avx512.h"

namespace tandem::cpu {
namespace {

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             Ahead ahead, float* c) {
  withConstants(rows, ahead.linesPerStep, [&](auto height, auto lines) {
    bf16Tile<height, lines>(a, stride, panel, inputs, first, ahead.from, c);
  });
}

}  // namespace

void avx512::roundRowBf16(const float* x, std::size_t count, bf16* out) {
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = firstLanes(count - i);
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, x + i));
    __m256i bits;
    std::memcpy(&bits, &rounded, sizeof bits);
    _mm256_mask_storeu_epi16(out + i, lanes, bits);
  }
}

const Kernels kAvx512Kernels{kTileRows,
                             true,
                             bf16Dot,
                             avx512::int8Dot,
                             avx512::int4Dot,
                             nullptr,
                             avx512::roundRowBf16,
                             avx512::quantizeGroup,
                             avx512::swiGlu};

}  // namespace tandem::cpu
