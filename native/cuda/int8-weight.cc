#include "cuda/int8-weight.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/half.h"

namespace tandem::cuda {
namespace {

std::int64_t roundedUp(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Symmetric, to the nearest of -127..127.
void quantizeRow(std::span<const float> values, std::int64_t row, Int8Weight& weight) {
  for (std::int64_t begin = 0; begin < weight.inputs; begin += kInt8Group) {
    const std::int64_t end = std::min<std::int64_t>(weight.inputs, begin + kInt8Group);
    float largest = 0;
    for (std::int64_t col = begin; col < end; ++col) largest = std::max(largest, std::abs(values[col]));
    const float scale = largest / 127;
    // Below this the inverse may overflow: a group so small is as good as zero.
    const float inverse = scale >= std::numeric_limits<float>::min() ? 1 / scale : 0;
    weight.scales[int8ScaleIndex(weight.paddedInputs, row, begin)] = scale;
    for (std::int64_t col = begin; col < end; ++col) {
      weight.codes[int8CodeIndex(weight.paddedInputs, row, col)] =
          static_cast<std::int8_t>(std::nearbyint(values[col] * inverse));
    }
  }
}

}  // namespace

Int8Weight packInt8(std::span<const CheckpointMatrix> parts) {
  check(!parts.empty(), "packInt8: no matrix was given");
  Int8Weight weight;
  weight.inputs = parts[0].cols;
  for (const CheckpointMatrix& part : parts) {
    check(part.cols == weight.inputs, "packInt8: stacked matrices must have equal inputs");
    weight.outputs += part.rows;
  }
  weight.paddedOutputs = roundedUp(weight.outputs, kInt8Outputs);
  weight.paddedInputs = roundedUp(weight.inputs, kInt8Group);
  weight.codes.assign(weight.paddedOutputs * weight.paddedInputs, 0);
  weight.scales.assign(weight.paddedOutputs * weight.paddedInputs / kInt8Group, 0);
  std::vector<float> values(weight.inputs);
  std::int64_t row = 0;
  for (const CheckpointMatrix& part : parts) {
    for (std::int64_t i = 0; i < part.rows; ++i, ++row) {
      readCheckpointRow(part, i, values);
      quantizeRow(values, row, weight);
    }
  }
  return weight;
}

}  // namespace tandem::cuda
