#pragma once

// How a matrix W [outputs, inputs] lies on the device: in tiles of 64 outputs, as shared memory shall hold
// them, so that plain copies of contiguous bytes fill it.
//
//   bf16  [outputs / 64][inputs / 64] tiles of [64 outputs][8 chunks of 8 inputs]; chunk c of output r lies
//   at
//         c ^ (r % 8), the 128-byte swizzle of tensor-core operands
//   int8  [outputs / 64][inputs / 128][8] units of 8 outputs: [8][128] codes, then [8] bf16 scales. A weight
//         is code * scale, rounded to bf16
//
// Eight outputs of a tile are contiguous too: blocks divide the outputs by eights. Outputs are padded with
// zeros to 64, inputs to 64 or 128. In a `gated` weight eights of gate and of up take turns.

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
inline constexpr int kTileInputs = 64;  // of a bf16 tile: 128 bytes an output
inline constexpr int kOutputsOfUnit = 8;
inline constexpr int kGroupInputs = 128;  // that share a scale
inline constexpr int kUnitBytes = kOutputsOfUnit * (kGroupInputs + static_cast<int>(sizeof(std::uint16_t)));

struct WeightTiles {
  const std::byte* data = nullptr;  // on the device
  std::int64_t outputs = 0, inputs = 0;
  std::int64_t paddedOutputs = 0, paddedInputs = 0;
  WeightClass weightClass = WeightClass::bf16;

  // Of eight outputs and all that is loaded of them at a time: 64 inputs in bf16, 128 in int8.
  TANDEM_HOST_DEVICE constexpr int unitBytes() const {
    return weightClass == WeightClass::bf16 ? kOutputsOfUnit * kTileInputs * 2 : kUnitBytes;
  }
  TANDEM_HOST_DEVICE constexpr int unitInputs() const {
    return weightClass == WeightClass::bf16 ? kTileInputs : kGroupInputs;
  }
  // The unit of the outputs [8 eight, 8 eight + 8) and the inputs from step * unitInputs() on.
  TANDEM_HOST_DEVICE constexpr std::int64_t unitOffset(std::int64_t eight, std::int64_t step) const {
    constexpr int kEights = kTileOutputs / kOutputsOfUnit;
    return ((eight / kEights * (paddedInputs / unitInputs()) + step) * kEights + eight % kEights) *
           unitBytes();
  }
  constexpr std::size_t bytes() const {
    return static_cast<std::size_t>(paddedOutputs / kOutputsOfUnit * (paddedInputs / unitInputs()) *
                                    unitBytes());
  }
};

}  // namespace tandem::cuda
