// Reads each value once and writes its bf16 or code: 4 bytes a weight from bf16 to bf16, 3 from bf16 to int8.
// Quantizing is to the nearest code, with one scale an output and 64 inputs of int8 or 32 of int4, which is
// rounded to bf16 first, so that the codes are the nearest for it. int8 has the codes -127..127, int4 -8..7
// with the scale of the least squared error among eight.

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
    } else if (problem.type == CheckpointType::e4m3) {
      values[i] = e4m3ToFloat(reinterpret_cast<const std::uint8_t*>(problem.source)[at + i]);
    } else {
      const auto bits = reinterpret_cast<const std::uint16_t*>(problem.source)[at + i];
      values[i] = problem.type == CheckpointType::bf16 ? __uint_as_float(std::uint32_t{bits} << 16)
                                                       : halfToFloat(bits);
    }
  }
  const CheckpointScales& scales = problem.scales;
  if (!scales.values) return;
  const std::int64_t perRow = (problem.tiles.inputs + scales.blockCols - 1) / scales.blockCols;
  const float* ofRow = scales.values + (problem.matrixRow + row) / scales.blockRows * perRow;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) values[i] *= ofRow[(col + i) / scales.blockCols];
}

__device__ std::int64_t outputOf(const PackRows& problem, std::int64_t row) {
  constexpr int kEight = kOutputsOfUnit;
  const std::int64_t output = problem.first + row;
  return (output / kEight * problem.turns + problem.turn) * kEight + output % kEight;
}

// Lanes that have what shares a scale.
constexpr int lanesOfScale(WeightClass weightClass) { return inputsOfScale(weightClass) / kPerLane; }

template <int kOf, class Combine>
__device__ auto overLanes(auto value, Combine combine) {
  for (int lanes = kOf / 2; lanes > 0; lanes /= 2) {
    value = combine(value, __shfl_xor_sync(kWholeWarp, value, lanes));
  }
  return value;
}

// Below the least normal number the inverse may overflow: a group so small is as good as zero.
__device__ float inverseOf(float scale) { return fabsf(scale) >= 0x1p-126f ? 1 / scale : 0; }

struct Int8Group {
  static constexpr int kLanesOfScale = lanesOfScale(WeightClass::int8);
  bf16 scale;
  std::uint32_t codes;  // of the lane's values: a sign and seven bits each

  __device__ explicit Int8Group(const float (&values)[kPerLane]) {
    // Without their signs floats compare as integers do, and NaN is the greatest: it stays visible in the
    // scale.
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const std::uint32_t bits = __float_as_uint(values[i]) & 0x7fffffffu;
      largest = bits > largest ? bits : largest;
    }
    largest =
        overLanes<kLanesOfScale>(largest, [](std::uint32_t a, std::uint32_t b) { return a > b ? a : b; });
    scale = roundToBf16(__uint_as_float(largest) / 127);
    const float inverse = inverseOf(lowFloat(scale));
    codes = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const float magnitude = fminf(rintf(fabsf(values[i] * inverse)), 127.0f);
      // In two statements: of one, GCC 12 with -fsanitize=undefined uses the index before it has a value.
      const std::uint32_t sign = values[i] < 0 ? 0x80u : 0u;
      codes |= (static_cast<std::uint32_t>(magnitude) | sign) << (8 * i);
    }
  }

  // All lanes of a warp call it.
  __device__ void store(std::byte* unit, int output, int lane, bool there) const {
    // Two lanes hold what two words share: the inputs 8 behind the first ones are the other's.
    const std::uint32_t theirs = __shfl_xor_sync(kWholeWarp, codes, 2);
    const int behind = lane / 2 % 2, t = lane % 2 * 2 + behind;
    const std::uint32_t first = (behind ? theirs : codes) >> (16 * behind),
                        second = (behind ? codes : theirs) >> (16 * behind);
    std::uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t a = first >> (8 * i), b = second >> (8 * i);
      word |= ((a & 0x7fu) | (b & 0x80u) | (b & 0x7fu) << 8 | (a & 0x80u) << 8) << (16 * i);
    }
    if (!there) return;
    reinterpret_cast<std::uint32_t*>(unit)[(output * 4 + t) * 4 + lane / 4] = word;
    if (lane == 0) reinterpret_cast<bf16*>(unit + kInt8CodeBytes)[output] = scale;
  }
};

struct Int4Group {
  static constexpr int kLanesOfScale = lanesOfScale(WeightClass::int4);
  bf16 scale;
  std::uint32_t codes[kPerLane];  // + 8

  __device__ static float codeOf(float value, float inverse) {
    return fminf(fmaxf(rintf(value * inverse), -8.0f), 7.0f);
  }
  __device__ static float errorOf(const float (&values)[kPerLane], float scale) {
    const float inverse = inverseOf(scale);
    float error = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const float difference = __fmaf_rn(-codeOf(values[i], inverse), scale, values[i]);
      error = __fmaf_rn(difference, difference, error);
    }
    return overLanes<kLanesOfScale>(error, [](float a, float b) { return a + b; });
  }

  __device__ explicit Int4Group(const float (&values)[kPerLane]) {
    // The value of largest magnitude, the positive one of two, and NaN before all.
    std::uint32_t key = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const std::uint32_t bits = __float_as_uint(values[i]), mine = bits << 1 | (bits >> 31 ^ 1u);
      key = mine > key ? mine : key;
    }
    key = overLanes<kLanesOfScale>(key, [](std::uint32_t a, std::uint32_t b) { return a > b ? a : b; });
    const float largest = __uint_as_float(key >> 1 | (key & 1u ? 0 : 0x80000000u));
    // It takes code -8, which has no positive twin, so the scale carries its sign; or it is clipped a little.
    scale = roundToBf16(largest / -8);
    float least = errorOf(values, lowFloat(scale));
#pragma unroll 1
    for (int step = 1; step < 8; ++step) {
      const bf16 other = roundToBf16(largest / (-8 + 0.25f * static_cast<float>(step)));
      const float error = errorOf(values, lowFloat(other));
      if (error >= least || error != error) continue;
      least = error;
      scale = other;
    }
    const float inverse = inverseOf(lowFloat(scale));
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      codes[i] = static_cast<std::uint32_t>(codeOf(values[i], inverse) + 8);
    }
  }

  // All lanes of a warp call it.
  __device__ void store(std::byte* unit, int output, int lane, bool there) const {
    const int quarter = lane / 2 % 4;  // of a word
    std::uint32_t words[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      words[i] = (codes[2 * i] | codes[2 * i + 1] << 16) << (4 * quarter);
      for (int lanes = 2; lanes <= 4; lanes *= 2) words[i] |= __shfl_xor_sync(kWholeWarp, words[i], lanes);
    }
    if (!there || quarter > 1) return;
    const int t = lane % 2 * 2 + quarter, half = lane / kLanesOfScale;
    reinterpret_cast<std::uint32_t*>(unit)[(output * 4 + t) * 2 + half] = quarter == 0 ? words[0] : words[1];
    if (lane % kLanesOfScale == 0) reinterpret_cast<bf16*>(unit + kInt4CodeBytes)[2 * output + half] = scale;
  }
};

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
  const std::int64_t output = outputOf(problem, row);
  const int inUnit = static_cast<int>(output % kOutputsOfUnit);
  std::byte* unit = problem.out + problem.tiles.unitOffset(output / kOutputsOfUnit, step);

  if constexpr (kClass == WeightClass::bf16) {
    if (!there) return;
    const int chunk = lane / 2 ^ inUnit;
    auto* pairs =
        reinterpret_cast<std::uint32_t*>(unit + inUnit * kTileInputs * 2 + chunk * 16 + lane % 2 * 8);
    pairs[0] = packBf16(values[0], values[1]);
    pairs[1] = packBf16(values[2], values[3]);
  } else if constexpr (kClass == WeightClass::int8) {
    Int8Group(values).store(unit, inUnit, lane, there);
  } else {
    Int4Group(values).store(unit, inUnit, lane, there);
  }
}

}  // namespace

void packRows(const PackRows& problem, Stream stream) {
  if (problem.rows == 0) return;
  const std::int64_t perBlock = kThreads / kLanes;
  const auto blocks = static_cast<unsigned>((problem.rows * problem.tiles.steps() + perBlock - 1) / perBlock);
  const auto kernel = [&] {
    switch (problem.tiles.weightClass) {
      case WeightClass::bf16:
        return pack<WeightClass::bf16>;
      case WeightClass::int8:
        return pack<WeightClass::int8>;
      case WeightClass::int4:
        return pack<WeightClass::int4>;
    }
    throw Error("there is no packing of weights of that class");
  };
  launch("packRows", kernel(), dim3(blocks), kThreads, stream, problem);
}

}  // namespace tandem::cuda
