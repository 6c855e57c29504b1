#pragma once

// What tiles of AVX-512 have in common, with and without BF16: in an unnamed namespace, so that no code for
// one processor is linked into another's.
//
// A tile is up to 6 rows by 64 outputs: 24 of the 32 vector registers hold sums, 4 the panel's present step,
// and one a row's broadcast inputs. Two dot products start a cycle; a step of 24 needs 10 loads, so the loads
// keep up.

#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "cpu/matmul/kernels.h"
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

// Asks for a step's lines of what is read later.
template <int Lines>
[[gnu::always_inline]] inline void prefetchStep(const char*& ahead) {
  // What many tiles ask for, a line each, comes long before it is read, and would push their panel out.
  constexpr auto kWhere = Lines == 1 ? _MM_HINT_T1 : _MM_HINT_T0;
  unroll<Lines>([&](auto line) __attribute__((always_inline)) { _mm_prefetch(ahead + line * 64, kWhere); });
  ahead += Lines * 64;
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

}  // namespace
}  // namespace tandem::cpu
