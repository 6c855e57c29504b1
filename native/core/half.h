#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/bf16.h"
#include "core/ops.h"

namespace tandem {

// IEEE half precision to float32, exact.
constexpr float halfToFloat(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

// fp8 with four bits of exponent and three of mantissa to float32, exact. It has no infinity: the largest
// pattern of either sign is NaN (OCP 8-bit floating point, e4m3; `float8_e4m3fn`).
constexpr float e4m3ToFloat(std::uint8_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x80u} << 24;
  const std::uint32_t magnitude = bits & 0x7fu;
  if (magnitude == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude < 8) {
    const float value = static_cast<float>(magnitude) * 0x1p-9f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  return std::bit_cast<float>(sign | (magnitude + (120u << 3)) << 20);
}

constexpr std::size_t checkpointBytes(CheckpointType type) {
  return type == CheckpointType::f32 ? 4 : type == CheckpointType::e4m3 ? 1 : 2;
}

// Reads one row of a matrix as float32. The source need not be aligned.
inline void readCheckpointRow(const CheckpointMatrix& matrix, std::int64_t row, std::span<float> out) {
  const std::byte* source = matrix.data + row * matrix.cols * checkpointBytes(matrix.type);
  if (matrix.type == CheckpointType::f32) {
    std::memcpy(out.data(), source, out.size_bytes());
  } else if (matrix.type == CheckpointType::e4m3) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = e4m3ToFloat(static_cast<std::uint8_t>(source[i]));
  } else {
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::uint16_t bits;
      std::memcpy(&bits, source + 2 * i, sizeof bits);
      out[i] = matrix.type == CheckpointType::bf16 ? toFloat(bits) : halfToFloat(bits);
    }
  }
  const CheckpointScales& scales = matrix.scales;
  if (!scales.values) return;
  const std::int64_t perRow = (matrix.cols + scales.blockCols - 1) / scales.blockCols;
  const float* ofRow = scales.values + row / scales.blockRows * perRow;
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] *= ofRow[static_cast<std::int64_t>(i) / scales.blockCols];
  }
}

}  // namespace tandem
