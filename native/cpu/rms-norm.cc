#include "cpu/rms-norm.h"

#include <cmath>
#include <cstddef>

namespace tandem::cpu {
namespace {

// Lanes written out, so that the compiler may use vectors without reordering a sum.
constexpr std::size_t kLanes = 32;

float sumOfSquares(std::span<const float> x) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  }
  for (std::size_t lane = 0; i < x.size(); ++i, ++lane) lanes[lane] += x[i] * x[i];
  for (std::size_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace

void rmsNormRow(std::span<const float> x, std::span<const float> gain, float eps, float* out) {
  const float mean = sumOfSquares(x) / static_cast<float>(x.size());
  const float inverse = 1 / std::sqrt(mean + eps);
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = x[i] * inverse * gain[i];
}

}  // namespace tandem::cpu
