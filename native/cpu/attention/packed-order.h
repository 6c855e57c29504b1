#pragma once

#include <array>

namespace tandem::cpu {

// Which of eight channels follow each other where the codes of four and four are masked out of their words:
// a mask leaves one code in each byte, and a lane of a product has the bytes of two words.
template <int Bits>
constexpr std::array<int, 8> orderOfEight() {
  if constexpr (Bits == 4) return {0, 2, 1, 3, 4, 6, 5, 7};
  return {0, 4, 1, 5, 2, 6, 3, 7};
}

}  // namespace tandem::cpu
