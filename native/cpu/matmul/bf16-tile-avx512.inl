// A tile of bf16 weights: `Products` of the including file says in which form it takes inputs and how it adds
// a step, two inputs of all rows times those of 64 outputs, to the sums.

#include "cpu/matmul/tiles-avx512.inl"

namespace tandem::cpu {
namespace {

template <int Rows, int Lines>
void bf16Tile(const Products::Input* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
              const char* ahead, float* c) {
  __m512 sums[Rows * kVectors];
  unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) {
    sums[i] = first ? _mm512_setzero_ps() : _mm512_load_ps(c + i * 16);
  });
#pragma GCC unroll 1
  for (std::size_t k = 0; k < inputs; k += 2) {
    prefetchStep<Lines>(ahead);
    Products::step<Rows>(sums, panel + k * kPanel, a + k, stride);
  }
  unroll<Rows * kVectors>([&](auto i)
                              __attribute__((always_inline)) { _mm512_store_ps(c + i * 16, sums[i]); });
}

}  // namespace
}  // namespace tandem::cpu
