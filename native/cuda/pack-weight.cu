// Reads each value once and writes its bf16 or code: 4 bytes a weight from bf16 to bf16, 3 from bf16 to int8.
// Quantizing is symmetric, with one scale an output and 128 inputs, to the nearest of -127..127; the scale is
// rounded to bf16 first, so that the codes are the nearest for it.

#include "cuda/pack-weight.h"

#include "core/error.h"
#include "core/half.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerLane = 4;  // values that a lane packs: 32 lanes are a group of int8

__device__ void readValues(const PackRows& problem, std::int64_t row, std::int64_t col,
                           float (&values)[kPerLane]) {
  const std::int64_t at = row * problem.tiles.inputs + col;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (problem.type == CheckpointType::f32) {
      values[i] = reinterpret_cast<const float*>(problem.source)[at + i];
    } else {
      const auto bits = reinterpret_cast<const std::uint16_t*>(problem.source)[at + i];
      values[i] = problem.type == CheckpointType::bf16 ? __uint_as_float(std::uint32_t{bits} << 16)
                                                       : halfToFloat(bits);
    }
  }
}

__device__ std::int64_t outputOf(const PackRows& problem, std::int64_t row) {
  constexpr int kEight = kOutputsOfUnit;
  const std::int64_t output = problem.first + row;
  return (output / kEight * problem.turns + problem.turn) * kEight + output % kEight;
}

// A warp packs 128 inputs of an output.
template <WeightClass kClass>
__global__ void __launch_bounds__(kThreads) pack(const PackRows problem) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t groups = (problem.tiles.inputs + kGroupInputs - 1) / kGroupInputs;
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (item >= problem.rows * groups) return;
  const std::int64_t row = item / groups, group = item % groups;
  const std::int64_t col = group * kGroupInputs + kPerLane * lane;
  float values[kPerLane] = {};
  if (col < problem.tiles.inputs) readValues(problem, row, col, values);
  const std::int64_t output = outputOf(problem, row), inUnit = output % kOutputsOfUnit;
  const std::int64_t eight = output / kOutputsOfUnit;

  if constexpr (kClass == WeightClass::bf16) {
    if (col >= problem.tiles.inputs) return;
    const std::int64_t chunk = col % kTileInputs / 8 ^ inUnit;
    auto* pairs =
        reinterpret_cast<std::uint32_t*>(problem.out + problem.tiles.unitOffset(eight, col / kTileInputs) +
                                         inUnit * kTileInputs * 2 + chunk * 16 + col % 8 * 2);
    pairs[0] = packBf16(values[0], values[1]);
    pairs[1] = packBf16(values[2], values[3]);
  } else {
    // Without their signs floats compare as integers do, and NaN is the greatest: it stays visible in the
    // scale.
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const std::uint32_t bits = __float_as_uint(values[i]) & 0x7fffffffu;
      largest = bits > largest ? bits : largest;
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      const std::uint32_t other = __shfl_xor_sync(kWholeWarp, largest, lanes);
      largest = other > largest ? other : largest;
    }
    const bf16 rounded = roundToBf16(__uint_as_float(largest) / 127);
    const float scale = lowFloat(rounded);
    // Below the least normal number the inverse may overflow: a group so small is as good as zero.
    const float inverse = scale >= 0x1p-126f ? 1 / scale : 0;
    std::uint32_t codes = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const float code = fminf(fmaxf(rintf(values[i] * inverse), -127.0f), 127.0f);
      codes |= (static_cast<std::uint32_t>(static_cast<int>(code)) & 0xffu) << (8 * i);
    }
    std::byte* unit = problem.out + problem.tiles.unitOffset(eight, group);
    *reinterpret_cast<std::uint32_t*>(unit + inUnit * kGroupInputs + kPerLane * lane) = codes;
    if (lane == 0) {
      reinterpret_cast<bf16*>(unit + kOutputsOfUnit * kGroupInputs)[inUnit] = rounded;
    }
  }
}

}  // namespace

void packRows(const PackRows& problem, Stream stream) {
  if (problem.rows == 0) return;
  const std::int64_t warps = problem.rows * ((problem.tiles.inputs + kGroupInputs - 1) / kGroupInputs);
  const auto blocks = static_cast<unsigned>((warps + kThreads / 32 - 1) / (kThreads / 32));
  const bool int8 = problem.tiles.weightClass == WeightClass::int8;
  launch("packRows", int8 ? pack<WeightClass::int8> : pack<WeightClass::bf16>, dim3(blocks), kThreads, stream,
         problem);
}

}  // namespace tandem::cuda
