// Blocks of 128 rows and 128 outputs over inputs in steps of 32, three steps in shared memory at a time;
// eight warps of 64 x 32. mma.sync, which runs on every architecture from 8.0 on; 9.0 has a wider instruction
// (wgmma) that this does not use, and without it reaches about 60% of its peak.
//
// FLOP: 2 * rows * outputs * inputs. Bytes: x once for every 128 outputs and W once for every 128 rows, from
// L2 where neighbouring blocks share them: 64 FLOP a byte of L2, 1/128 of its traffic without tiles.

#include "cuda/matmul-bf16.h"

#include "core/error.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 128;  // rows and outputs of a block
constexpr int kDepth = 32;  // inputs of a step
constexpr int kStages = 3;
constexpr int kChunks = kDepth / 8;             // of 16 bytes in a row
constexpr int kRowTiles = 4, kColumnTiles = 4;  // mma tiles of a warp

struct Stage {
  alignas(16) bf16 x[kTile * kDepth];
  alignas(16) bf16 w[kTile * kDepth];
};

// Element of a row's chunk. Rows of 64 bytes would put every second one into the same banks; exchanging
// chunks by the row's number spreads eight of them over all.
__device__ int chunkAt(int row, int chunk) { return row * kDepth + (chunk ^ (row / 2 % kChunks)) * 8; }

__device__ void loadTile(bf16* tile, const bf16* matrix, std::int64_t firstRow, std::int64_t rows, int cols,
                         int firstCol) {
#pragma unroll
  for (int i = 0; i < kTile * kChunks / kThreads; ++i) {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads, row = index / kChunks,
              chunk = index % kChunks;
    // Rows behind the last are computed too, from the last one's values, and not stored.
    const std::int64_t source = firstRow + row < rows ? firstRow + row : rows - 1;
    copyAsync(tile + chunkAt(row, chunk), matrix + source * cols + firstCol + 8 * chunk);
  }
}

__global__ void __launch_bounds__(kThreads, 2) multiplyTile(const MatmulBf16 problem) {
  __shared__ Stage stages[kStages];
  const std::int64_t firstRow = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int firstOutput = static_cast<int>(blockIdx.y) * kTile;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warpRow = warp % 2 * 64, warpColumn = warp / 2 * 32;
  const int steps = problem.inputs / kDepth;

  const auto load = [&](int step) {
    if (step < steps) {
      Stage& stage = stages[step % kStages];
      loadTile(stage.x, problem.x, firstRow, problem.rows, problem.inputs, step * kDepth);
      loadTile(stage.w, problem.w, firstOutput, problem.outputs, problem.inputs, step * kDepth);
    }
    endCopyGroup();
  };
  for (int step = 0; step < kStages - 1; ++step) load(step);

  float sums[kRowTiles][kColumnTiles][4] = {};
  for (int step = 0; step < steps; ++step) {
    waitForCopies<kStages - 2>();
    __syncthreads();
    load(step + kStages - 1);
    const Stage& stage = stages[step % kStages];
#pragma unroll
    for (int half = 0; half < kDepth / 16; ++half) {
      std::uint32_t b[kColumnTiles][2];
#pragma unroll
      for (int pair = 0; pair < kColumnTiles / 2; ++pair) {
        // Matrices: outputs 0-7 with the first and second 8 inputs, then outputs 8-15.
        std::uint32_t matrices[4];
        const int row = warpColumn + 16 * pair + lane / 16 * 8 + lane % 8;
        loadMatrices(matrices, stage.w + chunkAt(row, 2 * half + lane / 8 % 2));
        b[2 * pair][0] = matrices[0];
        b[2 * pair][1] = matrices[1];
        b[2 * pair + 1][0] = matrices[2];
        b[2 * pair + 1][1] = matrices[3];
      }
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        // Matrices: rows 0-7, rows 8-15 with the first 8 inputs, then with the second.
        std::uint32_t a[4];
        loadMatrices(a, stage.x + chunkAt(warpRow + 16 * tile + lane % 16, 2 * half + lane / 16));
#pragma unroll
        for (int column = 0; column < kColumnTiles; ++column) {
          multiplyTiles(sums[tile][column], a, b[column][0], b[column][1]);
        }
      }
    }
  }

#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
    for (int column = 0; column < kColumnTiles; ++column) {
      const int output = firstOutput + warpColumn + 8 * column + lane % 4 * 2;
      if (output >= problem.outputs) continue;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = firstRow + warpRow + 16 * tile + lane / 4 + 8 * half;
        if (row >= problem.rows) continue;
        *reinterpret_cast<std::uint32_t*>(problem.y + row * problem.outputs + output) =
            packBf16(sums[tile][column][2 * half], sums[tile][column][2 * half + 1]);
      }
    }
  }
}

}  // namespace

void matmulBf16(const MatmulBf16& problem, Stream stream) {
  check(problem.inputs > 0 && problem.inputs % kDepth == 0, "matmulBf16 supports inputs of a multiple of 32");
  check(problem.outputs > 0 && problem.outputs % 8 == 0, "matmulBf16 supports outputs of a multiple of 8");
  if (problem.rows == 0) return;
  // Rows change fastest: the blocks that run together share W's tiles, and x stays in L2.
  const dim3 grid(static_cast<unsigned>((problem.rows + kTile - 1) / kTile),
                  static_cast<unsigned>((problem.outputs + kTile - 1) / kTile));
  launch("matmulBf16", multiplyTile, grid, kThreads, stream, problem);
}

}  // namespace tandem::cuda
