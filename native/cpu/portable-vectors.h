#pragma once

// Vectors of 16 bytes, as every processor of today has them. The compiler makes them of what it targets by
// default, and of scalars where that has none. With them, and `unroll`, a tile of sums stays in registers; of
// plain loops the compiler makes vectors too, but keeps the sums in memory.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace tandem::cpu {

static_assert(std::endian::native == std::endian::little,
              "what lies in pairs and fours is taken apart by shifts");

using Floats [[gnu::vector_size(16)]] = float;
using Integers [[gnu::vector_size(16)]] = std::int32_t;
using Words [[gnu::vector_size(16)]] = std::uint32_t;
using Shorts [[gnu::vector_size(16)]] = std::int16_t;
using Halves [[gnu::vector_size(16)]] = std::uint16_t;

// Vectors of sums that each of `rows` rows has in a tile: eight are enough not to wait for one another, and
// what is made ready of a panel for one row, or for two, needs the other registers. Where there are 32, four
// rows have 16.
constexpr int tileVectors(int rows) {
#if defined(__aarch64__)
  constexpr int kLeast = 4;
#else
  constexpr int kLeast = 2;
#endif
  return std::max(kLeast, 8 / rows);
}

template <class Vector, class T>
[[gnu::always_inline]] inline Vector load(const T* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector, class T>
[[gnu::always_inline]] inline void store(Vector vector, T* to) {
  std::memcpy(to, &vector, sizeof vector);
}

// Four bytes in each of the lanes.
template <class T>
[[gnu::always_inline]] inline Words loadToAll(const T* from) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return Words{} + word;
}

// a * b + sum, rounded once: a call a lane where that is no instruction.
[[gnu::always_inline]] inline Floats fusedMultiplyAdd(Floats a, Floats b, Floats sum) {
  for (int lane = 0; lane < 4; ++lane) sum[lane] = std::fma(a[lane], b[lane], sum[lane]);
  return sum;
}

// a * b + sum, as fast as may be. GCC makes one instruction of four fused lanes, where there is one; Clang
// does so when it may fuse.
[[gnu::always_inline]] inline Floats multiplyAdd(Floats a, Floats b, Floats sum) {
#if defined(__clang__)
#pragma clang fp contract(fast)
  return a * b + sum;
#elif defined(__ARM_FEATURE_FMA)
  return fusedMultiplyAdd(a, b, sum);
#else
  return a * b + sum;
#endif
}

}  // namespace tandem::cpu
