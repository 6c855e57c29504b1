#pragma once

// How a matrix W [outputs, inputs] lies on the device: in tiles of 64 outputs and 64 inputs, each of 8 units
// of 8 outputs, so that plain copies of contiguous bytes fill shared memory as kernels read it.
//
//   bf16  a unit is [8 outputs][8 chunks of 8 inputs]; chunk c of output r lies at c ^ r, the 128-byte
//   swizzle
//         of tensor-core operands
//   int8  a unit is [32 lanes][4 words] of codes, then [8] bf16 scales: the 16 bytes of lane 4r + t are what
//   it
//         holds of output r as a tensor-core operand. Word i is the inputs 16i + 2t, + 1 and those 8 behind
//         them. A code is a sign and 7 bits; a weight is code * scale, rounded to bf16. The halves of a word
//         are the two neighbours: in the low byte are the 7 bits of the first and the sign of the one 8
//         behind it, in the high byte its 7 bits and the first one's sign, so that each is bf16 but for its
//         exponent where the half, or the half with its bytes exchanged, is masked.
//   int4  the same with [32 lanes][2 words] and scales [8][2], of 32 inputs each. Word i holds two times 16
//         inputs: from the lowest four bits on the halves are code + 8 of the inputs 32i + 2t, + 1, of those
//         8 behind them, and of the same of the next 16.
//
// Blocks divide the outputs by eights. Outputs are padded with zeros to 64, inputs to two tiles. In a `gated`
// weight eights of gate and of up take turns.

#include <cstddef>
#include <cstdint>

#include "core/ops.h"

#if defined(__CUDACC__)
#define TANDEM_HOST_DEVICE __host__ __device__
#else
#define TANDEM_HOST_DEVICE
#endif

namespace tandem::cuda {

inline constexpr int kTileOutputs = 64;
inline constexpr int kTileInputs = 64;                   // 128 bytes of bf16
inline constexpr int kInputsMultiple = 2 * kTileInputs;  // kernels take tiles of inputs by twos
inline constexpr int kOutputsOfUnit = 8;

// Inputs of an output that share a scale of codes: all of a tile, or half of them.
TANDEM_HOST_DEVICE constexpr int inputsOfScale(WeightClass weightClass) {
  return weightClass == WeightClass::int4 ? kTileInputs / 2 : kTileInputs;
}

inline constexpr int kBf16UnitBytes = kOutputsOfUnit * kTileInputs * 2;
inline constexpr int kInt8CodeBytes = kOutputsOfUnit * kTileInputs;
inline constexpr int kInt8UnitBytes = kInt8CodeBytes + kOutputsOfUnit * 2;
inline constexpr int kInt4CodeBytes = kInt8CodeBytes / 2;
inline constexpr int kInt4UnitBytes =
    kInt4CodeBytes + kOutputsOfUnit * 2 * (kTileInputs / inputsOfScale(WeightClass::int4));

// Of eight outputs and 64 inputs.
TANDEM_HOST_DEVICE constexpr int unitBytesOf(WeightClass weightClass) {
  if (weightClass == WeightClass::bf16) return kBf16UnitBytes;
  return weightClass == WeightClass::int8 ? kInt8UnitBytes : kInt4UnitBytes;
}

struct WeightTiles {
  const std::byte* data = nullptr;  // on the device
  std::int64_t outputs = 0, inputs = 0;
  std::int64_t paddedOutputs = 0, paddedInputs = 0;
  WeightClass weightClass = WeightClass::bf16;

  TANDEM_HOST_DEVICE constexpr int unitBytes() const { return unitBytesOf(weightClass); }
  TANDEM_HOST_DEVICE constexpr std::int64_t steps() const { return paddedInputs / kTileInputs; }
  // The unit of the outputs [8 eight, 8 eight + 8) and the inputs [64 step, 64 step + 64).
  TANDEM_HOST_DEVICE constexpr std::int64_t unitOffset(std::int64_t eight, std::int64_t step) const {
    constexpr int kEights = kTileOutputs / kOutputsOfUnit;
    return ((eight / kEights * steps() + step) * kEights + eight % kEights) * unitBytes();
  }
  constexpr std::size_t bytes() const {
    return static_cast<std::size_t>(paddedOutputs / kOutputsOfUnit * steps() * unitBytes());
  }
};

}  // namespace tandem::cuda
