#pragma once

#include <cstdint>

#include "cuda/stream.h"

namespace tandem::cuda {

// cos and sin of every row of a step, made once and used by all heads and layers. All on the device.
struct RopeAngles {
  const std::int32_t* positions = nullptr;    // [rows]
  const float* inverseFrequencies = nullptr;  // [halfDim]
  float* angles = nullptr;                    // [rows, 2, halfDim]: cosines, then sines
  std::int64_t rows = 0;
  int halfDim = 0;
  float attentionFactor = 1;  // on both
};

void ropeAngles(const RopeAngles& problem, Stream stream);

}  // namespace tandem::cuda
