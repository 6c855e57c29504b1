#include "vision/layer-norm.h"

#include <cmath>
#include <cstddef>

namespace tandem::vision {
namespace {

// Lanes written out, so that the compiler may use vectors without reordering a sum.
constexpr std::size_t kLanes = 32;

template <class Term>
float sumOf(std::size_t count, Term term) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += term(i);
  for (std::size_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace

void layerNormRow(std::span<const float> x, std::span<const float> gain, std::span<const float> bias,
                  float eps, float* out) {
  const auto count = static_cast<float>(x.size());
  const float mean = sumOf(x.size(), [&](std::size_t i) { return x[i]; }) / count;
  const float variance =
      sumOf(x.size(), [&](std::size_t i) { return (x[i] - mean) * (x[i] - mean); }) / count;
  const float inverse = 1 / std::sqrt(variance + eps);
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = (x[i] - mean) * inverse * gain[i] + bias[i];
}

}  // namespace tandem::vision
