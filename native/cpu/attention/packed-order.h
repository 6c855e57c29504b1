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

// Which of 16 tokens follow each other, four by four, as masks leave them side by side: a shuffle as
// EightPlaces.
template <int Bits>
struct SixteenPlaces {
  alignas(64) std::int8_t places[64];

  constexpr SixteenPlaces() : places() {
    for (int i = 0; i < 64; ++i) {
      const int four = i % 16 / 4, word = i % 4 / 2, byte = i % 2;
      const int pair = Bits == 4 ? four / 2 * 4 + four % 2 + byte * 2 : four + byte * 4;
      places[i] = static_cast<std::int8_t>(2 * pair + word);
    }
  }
};

template <int Bits>
inline constexpr SixteenPlaces<Bits> kSixteenPlaces;

}  // namespace tandem::cpu
