#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "core/bf16.h"

namespace tandem::test {

inline std::vector<float> randomFloats(std::size_t count, unsigned seed, float deviation = 1,
                                       float mean = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline std::vector<bf16> toBf16s(const std::vector<float>& values) {
  std::vector<bf16> result;
  result.reserve(values.size());
  for (const float value : values) result.push_back(toBf16(value));
  return result;
}

inline std::vector<bf16> randomBf16s(std::size_t count, unsigned seed, float deviation = 1, float mean = 0) {
  return toBf16s(randomFloats(count, seed, deviation, mean));
}

// What rounding a result to bf16 may change: half a unit in the 8th place.
inline double bf16Error(double value) { return std::abs(value) * 0x1p-8; }

}  // namespace tandem::test
