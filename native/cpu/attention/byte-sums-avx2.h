#pragma once

// Sums of products of bytes on AVX2. Include only from files compiled for AVX2 and nothing more: it has the
// names of byte-sums-avxvnni.h, each in an unnamed namespace.

#include <immintrin.h>

#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// N vectors of int32, to which four products of a byte without a sign and one that has one are added in each
// lane. Most: the largest product.
template <int N, int Most>
class ByteSums {
 public:
  // A product does not wait for the sum of those before it.
  static constexpr bool kIsChain = false;
  // So often a sum is added to before it must be collected: two products together make an int16, and more
  // would not fit it.
  static constexpr int kHeld = 32767 / (2 * Most);

  [[gnu::always_inline]] ByteSums() {
    unroll<N>([&](auto i) { sums_[i] = held_[i] = _mm256_setzero_si256(); });
  }

  template <int I>
  [[gnu::always_inline]] void add(__m256i plain, __m256i withSign) {
    held_[I] = _mm256_add_epi16(held_[I], _mm256_maddubs_epi16(plain, withSign));
  }

  [[gnu::always_inline]] void collect() {
    unroll<N>([&](auto i) {
      sums_[i] = _mm256_add_epi32(sums_[i], _mm256_madd_epi16(held_[i], _mm256_set1_epi16(1)));
      held_[i] = _mm256_setzero_si256();
    });
  }

  template <int I>
  [[gnu::always_inline]] __m256i sum() const {
    return sums_[I];
  }

 private:
  __m256i sums_[N], held_[N];
};

}  // namespace
}  // namespace tandem::cpu
