#pragma once

#include <span>

namespace tandem::vision {

// out = (x - mean(x)) / sqrt(variance(x) + eps) * gain + bias, one row. out may be x. The order of the sums
// depends on the length alone.
void layerNormRow(std::span<const float> x, std::span<const float> gain, std::span<const float> bias,
                  float eps, float* out);

}  // namespace tandem::vision
