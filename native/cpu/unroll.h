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

}  // namespace tandem::cpu
