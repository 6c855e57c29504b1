// A block computes 32 outputs for up to 16 rows; its eight warps share the inputs, a group of 128 at a time
// in turn.
//
// Bytes: each code once for every 16 rows, 1.03 a weight with its scale; the activations come from L2 once a
// block and from L1 where blocks of an SM are after the same. FLOP: 2 a weight and row on tensor cores;
// making bf16 of a code costs 2 instructions, about 1.2 warp instructions a cycle and SM at 4.3 TB/s, of 4.

#include "cuda/matmul-int8.h"

#include "core/error.h"
#include "cuda/bf16-pair.h"
#include "cuda/int8-weight.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kTiles = kInt8Outputs / 16;
constexpr int kSteps = kInt8Group / 32;  // 16-byte loads of a group

template <int kColumns>  // tiles of 8 rows of x
struct Sums {
  float of[kTiles][kColumns][4];
};

template <int kColumns>
__device__ void addGroup(const MatmulInt8& problem, int group, int groups, std::int64_t firstRow, int lane,
                         Sums<kColumns>& total) {
  const int g = lane / 4, t = lane % 4;
  Sums<kColumns> sums{};
  const std::int64_t tileSteps = static_cast<std::int64_t>(groups) * kSteps;
  uint4 codes[kTiles][kSteps];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const std::int64_t block = (blockIdx.x * kTiles + tile) * tileSteps + group * kSteps;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      codes[tile][step] =
          loadOnce(reinterpret_cast<const uint4*>(problem.codes) + (block + step) * 32 + lane);
    }
  }
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint4 x[kColumns];
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
      const std::int64_t row = firstRow + 8 * column + g;
      const int input = (group * kSteps + step) * 32 + 8 * t;
      const bool there = row < problem.rows && input < problem.inputs;
      x[column] = there ? *reinterpret_cast<const uint4*>(problem.x + row * problem.inputs + input)
                        : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint4 word = codes[tile][step];
      const std::uint32_t first[4] = {expandCodes<0>(word.x), expandCodes<1>(word.x), expandCodes<0>(word.y),
                                      expandCodes<1>(word.y)};
      const std::uint32_t second[4] = {expandCodes<0>(word.z), expandCodes<1>(word.z), expandCodes<0>(word.w),
                                       expandCodes<1>(word.w)};
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
        multiplyTiles(sums.of[tile][column], first, x[column].x, x[column].y);
        multiplyTiles(sums.of[tile][column], second, x[column].z, x[column].w);
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const float* scales =
        problem.scales + ((blockIdx.x * kTiles + tile) * static_cast<std::int64_t>(groups) + group) * 16;
    const float upper = scales[g], lower = scales[g + 8];
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        total.of[tile][column][i] += (i < 2 ? upper : lower) * sums.of[tile][column][i];
    }
  }
}

template <int kColumns>
// Two blocks an SM at least: bounds for more made the compiler spill what it had loaded ahead.
__global__ void __launch_bounds__(kThreads, 2) multiply(const MatmulInt8 problem) {
  constexpr int kRows = 8 * kColumns;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4;
  const std::int64_t firstRow = static_cast<std::int64_t>(blockIdx.y) * kRows;
  const int groups = (problem.inputs + kInt8Group - 1) / kInt8Group;
  Sums<kColumns> total{};
  for (int group = warp; group < groups; group += kWarps) {
    addGroup<kColumns>(problem, group, groups, firstRow, lane, total);
  }

  __shared__ float parts[kWarps][kRows][kInt8Outputs + 1];  // one more: rows begin in other banks
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        parts[warp][8 * column + 2 * t + i % 2][16 * tile + g + 8 * (i / 2)] = total.of[tile][column][i];
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kInt8Outputs; i += kThreads) {
    const int inRow = i / kInt8Outputs, inOutput = i % kInt8Outputs;
    const std::int64_t row = firstRow + inRow;
    const int output = static_cast<int>(blockIdx.x) * kInt8Outputs + inOutput;
    if (row >= problem.rows || output >= problem.outputs) continue;
    float sum = problem.bias ? problem.bias[output] : 0;
    for (int w = 0; w < kWarps; ++w) sum += parts[w][inRow][inOutput];
    const std::int64_t at = row * problem.outputs + output;
    if (problem.store == Store::float32) {
      static_cast<float*>(problem.y)[at] = sum;
      continue;
    }
    auto* y = static_cast<bf16*>(problem.y) + at;
    if (problem.store == Store::add) sum += lowFloat(*y);
    *y = roundToBf16(sum);
  }
}

}  // namespace

void matmulInt8(const MatmulInt8& problem, Stream stream) {
  check(problem.inputs > 0 && problem.inputs % 8 == 0, "matmulInt8 supports inputs of a multiple of 8");
  check(problem.outputs > 0, "matmulInt8: there are no outputs");
  if (problem.rows == 0) return;
  const int rows = problem.rows <= 8 ? 8 : 16;
  const dim3 grid(static_cast<unsigned>((problem.outputs + kInt8Outputs - 1) / kInt8Outputs),
                  static_cast<unsigned>((problem.rows + rows - 1) / rows));
  launch("matmulInt8", rows == 8 ? multiply<1> : multiply<2>, grid, kThreads, stream, problem);
}

}  // namespace tandem::cuda
