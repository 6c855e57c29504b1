#pragma once

#include <span>

namespace tandem::cpu {

// out = x / rms(x) * gain, one row. out may be x. The order of the sum depends on the length alone.
void rmsNormRow(std::span<const float> x, std::span<const float> gain, float eps, float* out);

}  // namespace tandem::cpu
