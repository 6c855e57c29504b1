#pragma once

#include <array>
#include <cstdint>

namespace tandem::cpu {

// Which of eight channels follow each other where the codes of four and four are masked out of their words:
// a mask leaves one code in each byte, and a lane of a product has the bytes of two words.
template <int Bits>
constexpr std::array<int, 8> orderOfEight() {
  if constexpr (Bits == 4) return {0, 2, 1, 3, 4, 6, 5, 7};
  return {0, 4, 1, 5, 2, 6, 3, 7};
}

// The same as a shuffle of bytes within lanes of 16, for vectors of up to 64.
template <int Bits>
struct EightPlaces {
  alignas(64) std::int8_t places[64];

  constexpr EightPlaces() : places() {
    for (int i = 0; i < 64; ++i) {
      places[i] = static_cast<std::int8_t>(i % 16 / 8 * 8 + orderOfEight<Bits>()[i % 8]);
    }
  }
};

template <int Bits>
inline constexpr EightPlaces<Bits> kEightPlaces;

}  // namespace tandem::cpu
