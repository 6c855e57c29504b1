#pragma once

// Sums of products of bytes on AVX-VNNI: see byte-sums-avx2.h. Include only from files compiled for it.

#include <immintrin.h>

#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

template <int N, int Most>
class ByteSums {
 public:
  static constexpr bool kIsChain = true;
  static constexpr int kHeld = 1 << 20;

  [[gnu::always_inline]] ByteSums() {
    unroll<N>([&](auto i) { sums_[i] = _mm256_setzero_si256(); });
  }

  template <int I>
  [[gnu::always_inline]] void add(__m256i plain, __m256i withSign) {
    sums_[I] = _mm256_dpbusd_avx_epi32(sums_[I], plain, withSign);
  }

  [[gnu::always_inline]] void collect() {}

  template <int I>
  [[gnu::always_inline]] __m256i sum() const {
    return sums_[I];
  }

 private:
  __m256i sums_[N];
};

}  // namespace
}  // namespace tandem::cpu
