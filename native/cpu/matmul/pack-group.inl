// One source for every instruction set, whose vectors the compiler takes: the sums of eight lanes are added
// in the same order everywhere.

// Vectors wider than the target's are passed to what is inlined only.
#pragma GCC diagnostic ignored "-Wpsabi"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/matmul/pack-group.h"
#include "cpu/matmul/quantize.h"

namespace tandem::cpu {
namespace {

constexpr int kFactorMost = 15;

// Of kCount values that of largest magnitude, with its sign. Without their signs floats compare as integers
// do, and NaN is the greatest: a broken weight must not get lost in a code.
template <int kCount>
[[gnu::always_inline]] inline float outermost(const float* values) {
  constexpr auto kSign = std::numeric_limits<std::int32_t>::min();
  std::int32_t positive = 0, negative = 0;
  for (int i = 0; i < kCount; ++i) {
    const auto bits = std::bit_cast<std::int32_t>(values[i]), flipped = bits ^ kSign;
    positive = bits > positive ? bits : positive;
    negative = flipped > negative ? flipped : negative;
  }
  return std::bit_cast<float>(positive >= negative ? positive : negative ^ kSign);
}

constexpr int kLanes = 8;
using Lanes [[gnu::vector_size(kLanes * 4)]] = float;
using Integers [[gnu::vector_size(kLanes * 4)]] = std::int32_t;
using Bytes [[gnu::vector_size(kLanes)]] = std::uint8_t;

[[gnu::always_inline]] inline Lanes lanesAt(const float* values) {
  Lanes lanes;
  std::memcpy(&lanes, values, sizeof lanes);
  return lanes;
}

// NaN becomes the highest, which its scale makes NaN again.
[[gnu::always_inline]] inline Lanes codesOf(const Lanes& values, float inverse, float lowest, float highest) {
  const Lanes least = Lanes{} + lowest, most = Lanes{} + highest, products = values * inverse;
  const Lanes below = products < most ? products : most;
  return nearest(below > least ? below : least);
}

[[gnu::always_inline]] inline Lanes int4CodesOf(const Lanes& values, float inverse) {
  return codesOf(values, inverse, -8, 7);
}

// Codes above their zero point.
[[gnu::always_inline]] inline void store(const Lanes& codes, int zero, std::uint8_t* out) {
  const Bytes bytes = __builtin_convertvector(__builtin_convertvector(codes, Integers) + zero, Bytes);
  std::memcpy(out, &bytes, sizeof bytes);
}

float packInt8Group(const float* group, std::uint8_t* codes) {
  const float scale = std::abs(outermost<kGroup>(group)) / 127, inverse = inverseOf(scale);
  for (int i = 0; i < kGroup; i += kLanes) {
    store(codesOf(lanesAt(group + i), inverse, -127, 127), kInt8Zero, codes + i);
  }
  return scale;
}

// Sum of squared differences between a part and its codes' values.
[[gnu::always_inline]] inline float errorOf(const float* part, float scale) {
  const float inverse = inverseOf(scale);
  Lanes errors{};
  for (int i = 0; i < kPart; i += kLanes) {
    const Lanes values = lanesAt(part + i), differences = values - int4CodesOf(values, inverse) * scale;
    errors += differences * differences;
  }
  float error = 0;
  for (int lane = 0; lane < kLanes; ++lane) error += errors[lane];
  return error;
}

// The factor that leaves the least squared error, at most that of the part's range and at least three
// quarters of it: with 16 levels, clipping the largest value a little often pays. The value of largest
// magnitude takes code -8, which has no positive twin; so the factor carries its sign.
[[gnu::always_inline]] inline int factorOf(const float* part, float range, float scale) {
  const int sign = range < 0 ? -1 : 1;
  const float factors = std::abs(range);
  int best = 0;
  float bestError = std::numeric_limits<float>::infinity();
  // None where the range is no number.
  for (int factor = kFactorMost; factor > 0 && static_cast<float>(factor) >= 0.75f * factors; --factor) {
    if (static_cast<float>(factor - 1) >= factors) continue;
    const float error = errorOf(part, static_cast<float>(sign * factor) * scale);
    if (error >= bestError) continue;
    bestError = error;
    best = sign * factor;
  }
  return best;
}

float packInt4Group(const float* group, std::int8_t* factors, std::uint8_t* codes) {
  float ranges[kParts];
  std::uint32_t largest = 0;
  for (int part = 0; part < kParts; ++part) {
    ranges[part] = outermost<kPart>(group + part * kPart);
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(ranges[part]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  const float scale = std::bit_cast<float>(largest) / (8 * kFactorMost), inverse = inverseOf(scale);
  for (int part = 0; part < kParts; ++part) {
    const float* values = group + part * kPart;
    const int factor = factorOf(values, ranges[part] / -8 * inverse, scale);
    factors[part] = static_cast<std::int8_t>(factor);
    const float ofCode = inverseOf(static_cast<float>(factor) * scale);
    for (int i = 0; i < kPart; i += kLanes) {
      store(int4CodesOf(lanesAt(values + i), ofCode), kInt4Zero, codes + part * kPart + i);
    }
  }
  return scale;
}

}  // namespace
}  // namespace tandem::cpu
