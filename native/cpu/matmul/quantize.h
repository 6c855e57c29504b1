#pragma once

// Arithmetic that quantizing weights and quantizing activations share. Always inlined: of an inline function
// with a symbol the linker might keep the copy that was compiled for AVX-512.

#include <cmath>
#include <limits>

namespace tandem::cpu {

// 0 below the scale whose inverse may overflow: a group so small is as good as zero.
[[gnu::always_inline]] inline float inverseOf(float scale) {
  return std::abs(scale) >= std::numeric_limits<float>::min() ? 1 / scale : 0;
}

// To the nearest integer, ties to even, for |x| < 2^22: adding this leaves no bits below the point. Unlike
// std::nearbyint it is two additions, which the compiler makes vectors of.
template <class T>
[[gnu::always_inline]] inline T nearest(const T& x) {
  constexpr float kPoint = 12582912;  // 1.5 * 2^23
  return (x + kPoint) - kPoint;
}

}  // namespace tandem::cpu
