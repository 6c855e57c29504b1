#pragma once

#include <bit>
#include <cstdint>

namespace tandem {

// The upper half of a float32: 8 bits of exponent, 7 of mantissa.
using bf16 = std::uint16_t;

constexpr float toFloat(bf16 value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

// Rounds to nearest, ties to even, as hardware does; NaN stays NaN.
constexpr bf16 toBf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16>((bits >> 16) | 0x0040u);
  return static_cast<bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace tandem
