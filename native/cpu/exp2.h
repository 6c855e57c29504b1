#pragma once

#include <cstdint>
#include <cstring>

namespace tandem::cpu {

// 2^y for y <= 0: 2^n * p(r), where p is the minimax polynomial of degree 6 on [-0.5, 0.5] (relative error
// 3e-9). 0 below 2^-126; NaN stays NaN. Always inlined, so that no code for one processor is linked into
// another's, and without branches, so that the compiler makes vectors of it.
[[gnu::always_inline]] inline float exp2Of(float y) {
  constexpr float kRound = 12582912.0f;  // adding 1.5 * 2^23 leaves no bits behind the point
  const bool vanishes = y < -126.0f;
  y = vanishes ? 0.0f : y;
  const float rounded = y + kRound;
  const float r = y - (rounded - kRound);
  float p = 0.00015594678f;
  p = p * r + 0.0013406644f;
  p = p * r + 0.009617693f;
  p = p * r + 0.055503106f;
  p = p * r + 0.24022653f;
  p = p * r + 0.6931472f;
  p = p * r + 1.0f;
  // The last bits of `rounded` are n.
  std::uint32_t bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  bits = (bits + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return vanishes ? 0.0f : p * power;
}

}  // namespace tandem::cpu
