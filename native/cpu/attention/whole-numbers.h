#pragma once

// Floats as whole numbers, on every instruction set that multiplies such.

namespace tandem::cpu {

// The largest of a group of numbers becomes this one.
inline constexpr float kTopNumber = 32767;

// What to multiply by so that `largest` becomes `top`. 0 where it vanishes or is none.
[[gnu::always_inline]] inline float numbersPer(float largest, float top = kTopNumber) {
  return largest >= 1e-30f && largest <= 1e30f ? top / largest : 0.0f;
}

}  // namespace tandem::cpu
