#pragma once

// A matrix W [outputs, inputs] in int8 with one float32 scale for each output and 128 inputs, as
// matmul-int8.cu reads it:
//
//   codes   [outputs / 16][inputs / 32][lane 32][16]   a lane's 16 bytes are its A operands of two mma
//   scales  [outputs / 16][inputs / 128][16]
//
// Byte 8 step + 4 column + 2 half + k of lane (g, t) = (lane / 4, lane % 4) is output g + 8 half, input
// 8 t + 4 step + 2 column + k: the inputs of a lane lie side by side, so that it reads the activations that
// go with them in one access. Outputs are padded with zeros to 32, inputs to 128.

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"

namespace tandem::cuda {

inline constexpr int kInt8Group = 128;
inline constexpr int kInt8Outputs = 32;  // of a block of the kernel

struct Int8Weight {
  std::int64_t outputs = 0, inputs = 0;
  std::int64_t paddedOutputs = 0, paddedInputs = 0;
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
};

// Packs matrices of equal inputs one below the other. Throws Error if their inputs differ.
Int8Weight packInt8(std::span<const CheckpointMatrix> parts);

// Where output `row` and input `col` lie in the codes.
constexpr std::int64_t int8CodeIndex(std::int64_t paddedInputs, std::int64_t row, std::int64_t col) {
  const std::int64_t tile = (row / 16) * (paddedInputs / 32) + col / 32;
  const std::int64_t g = row % 8, half = row % 16 / 8, t = col % 32 / 8, inLane = col % 8;
  return tile * 512 + (4 * g + t) * 16 + inLane / 4 * 8 + inLane % 4 / 2 * 4 + half * 2 + inLane % 2;
}

constexpr std::int64_t int8ScaleIndex(std::int64_t paddedInputs, std::int64_t row, std::int64_t col) {
  return (row / 16 * (paddedInputs / kInt8Group) + col / kInt8Group) * 16 + row % 16;
}

}  // namespace tandem::cuda
