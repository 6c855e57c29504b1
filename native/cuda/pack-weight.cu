// Reads each value once and writes its bf16 or code: 4 bytes a weight from bf16 to bf16, 3 from bf16 to int8.
// Quantizing is symmetric, with one scale an output and 64 inputs, to the nearest of -127..127; the scale is
// rounded to bf16 first, so that the codes are the nearest for it.

#include "cuda/pack-weight.h"

#include "core/error.h"
#include "core/half.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerLane = 4;                     // values that a lane packs
constexpr int kLanes = kTileInputs / kPerLane;  // of a row of a tile: half a warp

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

// Half a warp packs the 64 inputs of an output in a tile.
template <WeightClass kClass>
__global__ void __launch_bounds__(kThreads) pack(const PackRows problem) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t steps = problem.tiles.steps();
  const std::int64_t item =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  // Lanes behind the last item stay, for the warp's exchanges.
  const bool there = item < problem.rows * steps;
  const std::int64_t row = there ? item / steps : 0, step = there ? item % steps : 0;
  const std::int64_t col = step * kTileInputs + kPerLane * lane;
  float values[kPerLane] = {};
  if (there && col < problem.tiles.inputs) readValues(problem, row, col, values);
  const std::int64_t output = outputOf(problem, row), inUnit = output % kOutputsOfUnit;
  std::byte* unit = problem.out + problem.tiles.unitOffset(output / kOutputsOfUnit, step);

  if constexpr (kClass == WeightClass::bf16) {
    if (!there) return;
    const std::int64_t chunk = lane / 2 ^ inUnit;
    auto* pairs =
        reinterpret_cast<std::uint32_t*>(unit + inUnit * kTileInputs * 2 + chunk * 16 + lane % 2 * 8);
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
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
      const std::uint32_t other = __shfl_xor_sync(kWholeWarp, largest, lanes);
      largest = other > largest ? other : largest;
    }
    const bf16 rounded = roundToBf16(__uint_as_float(largest) / 127);
    const float scale = lowFloat(rounded);
    // Below the least normal number the inverse may overflow: a group so small is as good as zero.
    const float inverse = scale >= 0x1p-126f ? 1 / scale : 0;
    std::uint32_t mine = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const float magnitude = fminf(rintf(fabsf(values[i] * inverse)), 127.0f);
      const std::uint32_t code = static_cast<std::uint32_t>(magnitude) | (values[i] < 0 ? 0x80u : 0u);
      mine |= code << (8 * i);
    }
    // Two lanes hold what two words share: the inputs 8 behind the first ones are the other's.
    const std::uint32_t theirs = __shfl_xor_sync(kWholeWarp, mine, 2);
    const int behind = lane / 2 % 2, t = lane % 2 * 2 + behind;
    const std::uint32_t first = (behind ? theirs : mine) >> (16 * behind),
                        second = (behind ? mine : theirs) >> (16 * behind);
    std::uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t a = first >> (8 * i), b = second >> (8 * i);
      word |= ((a & 0x7fu) | (b & 0x80u) | (b & 0x7fu) << 8 | (a & 0x80u) << 8) << (16 * i);
    }
    if (!there) return;
    reinterpret_cast<std::uint32_t*>(unit)[(inUnit * 4 + t) * 4 + lane / 4] = word;
    if (lane == 0) reinterpret_cast<bf16*>(unit + kInt8CodeBytes)[inUnit] = rounded;
  }
}

}  // namespace

void packRows(const PackRows& problem, Stream stream) {
  if (problem.rows == 0) return;
  const std::int64_t perBlock = kThreads / kLanes;
  const auto blocks = static_cast<unsigned>((problem.rows * problem.tiles.steps() + perBlock - 1) / perBlock);
  const bool int8 = problem.tiles.weightClass == WeightClass::int8;
  launch("packRows", int8 ? pack<WeightClass::int8> : pack<WeightClass::bf16>, dim3(blocks), kThreads, stream,
         problem);
}

}  // namespace tandem::cuda
