#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace tandem::cpu {

// Calls body(std::integral_constant<int, i>) for i in [0, N). With constant indices an array of vectors is a
// set of registers; a loop over it, even one the compiler later unrolls, may live in memory.
template <int N, class Body>
[[gnu::always_inline]] inline void unroll(Body&& body) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, I>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

// Calls body(std::integral_constant<int, R>, first) for [0, count) in groups of R: of `Most`, a power of two,
// as many as there are, and of its halves what is left.
template <int Most, class Body>
[[gnu::always_inline]] inline void byGroups(int count, Body&& body) {
  int first = 0;
  for (; first + Most <= count; first += Most) body(std::integral_constant<int, Most>{}, first);
  const auto left = [&]<int R>(auto&& self, std::integral_constant<int, R>) __attribute__((always_inline)) {
    if constexpr (R > 0) {
      if (count & R) body(std::integral_constant<int, R>{}, first), first += R;
      self(self, std::integral_constant<int, R / 2>{});
    }
  };
  left(left, std::integral_constant<int, Most / 2>{});
}

}  // namespace tandem::cpu
