// Tiles of rows and outputs over the inputs, 64 at a time, several such steps in shared memory. For 8.0 and
// 8.9; on 9.0 it reaches about 60% of what wgmma does.
//
// FLOP: 2 * rows * outputs * inputs. Bytes: x once for every kOutputs and W once for every kRows, from L2
// where neighbouring blocks share them. A lane makes bf16 of the codes that it holds as an operand.

#include "cuda/matmul-mma.h"

#include "core/error.h"
#include "cuda/kernel.h"
#include "cuda/matmul-tile.h"
#include "cuda/weight-codes.h"

namespace tandem::cuda {
namespace {

// rows x outputs of a block, in warps of rows x outputs.
template <int kRowsOf, int kOutputsOf, int kRowWarpsOf, int kOutputWarpsOf, int kStagesOf>
struct TileShape {
  static constexpr int kRows = kRowsOf, kOutputs = kOutputsOf;
  static constexpr int kOutputWarps = kOutputWarpsOf, kRowWarps = kRowWarpsOf;
  static constexpr int kThreads = 32 * kRowWarps * kOutputWarps;
  static constexpr int kStages = kStagesOf;
  static constexpr int kRowTiles = kRows / kRowWarps / 16;     // of 16, of a warp
  static constexpr int kEights = kOutputs / kOutputWarps / 8;  // of outputs, of a warp
  static constexpr int kXBytes = kRows * kTileInputs * 2;
  static constexpr int kUnits = kOutputs / kOutputsOfUnit;
};
using FewRows = TileShape<16, 64, 1, 4, 6>;
using SomeRows = TileShape<64, 64, 2, 2, 4>;
using ManyRows = TileShape<128, 128, 2, 4, 3>;

template <class Tile, WeightClass kClass>
struct Kernel {
  static constexpr bool kCodes = kClass != WeightClass::bf16;
  static constexpr int kUnitBytes = unitBytesOf(kClass);
  static constexpr int kStageBytes = Tile::kXBytes + Tile::kUnits * kUnitBytes;
  static constexpr std::size_t kSharedBytes = std::size_t{Tile::kStages} * kStageBytes;

  __device__ static void loadX(const MatmulProblem& problem, std::int64_t firstRow, int step, bf16* tile) {
    constexpr int kChunks = Tile::kRows * 8;
#pragma unroll
    for (int i = 0; i < kChunks / Tile::kThreads; ++i) {
      const int index = static_cast<int>(threadIdx.x) + i * Tile::kThreads, row = index / 8,
                chunk = index % 8;
      // Rows behind the last are computed too, from the last one's values, and not stored.
      const std::int64_t source = firstRow + row < problem.rows ? firstRow + row : problem.rows - 1;
      const std::int64_t col = std::int64_t{step} * kTileInputs + 8 * chunk;
      const bool there = col < problem.w.inputs;
      copyAsyncOrZero(tile + swizzled(row, chunk), problem.x + source * problem.w.inputs + (there ? col : 0),
                      there);
    }
  }

  __device__ static void loadW(const WeightTiles& w, int firstEight, int step, std::byte* tile) {
    constexpr int kOfUnit = kUnitBytes / 16, kPieces = Tile::kUnits * kOfUnit;
#pragma unroll
    for (int i = 0; i < (kPieces + Tile::kThreads - 1) / Tile::kThreads; ++i) {
      const int index = static_cast<int>(threadIdx.x) + i * Tile::kThreads;
      if (index >= kPieces) break;
      copyAsync(tile + 16 * index, unitOf(w, firstEight + index / kOfUnit, step) + index % kOfUnit * 16);
    }
  }

  // Outputs behind the last tile of W are computed from the first one's, and not stored.
  __device__ static const std::byte* unitOf(const WeightTiles& w, std::int64_t eight, int step) {
    return w.data + w.unitOffset(eight * kOutputsOfUnit < w.paddedOutputs ? eight : 0, step);
  }
};

template <class Tile, WeightClass kClass>
__global__ void __launch_bounds__(Tile::kThreads) multiply(const MatmulProblem problem) {
  using K = Kernel<Tile, kClass>;
  std::byte* shared = dynamicShared();
  const auto stageAt = [&](int step) { return shared + step % Tile::kStages * K::kStageBytes; };
  const std::int64_t firstRow = static_cast<std::int64_t>(blockIdx.x) * Tile::kRows;
  const int firstEight = static_cast<int>(blockIdx.y) * (Tile::kOutputs / 8);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warpRow = warp % Tile::kRowWarps * 16 * Tile::kRowTiles;
  const int warpOutput = warp / Tile::kRowWarps * 8 * Tile::kEights;
  const int steps = problem.steps();

  const auto load = [&](int step) {
    if (step < steps) {
      std::byte* stage = stageAt(step);
      K::loadX(problem, firstRow, step, reinterpret_cast<bf16*>(stage));
      K::loadW(problem.w, firstEight, step, stage + Tile::kXBytes);
    }
    endCopyGroup();
  };
  for (int step = 0; step < Tile::kStages - 1; ++step) load(step);

  const std::uint32_t k128 = twice128();
  float sums[Tile::kRowTiles][Tile::kEights][4] = {};
  for (int step = 0; step < steps; ++step) {
    waitForCopies<Tile::kStages - 2>();
    __syncthreads();
    load(step + Tile::kStages - 1);
    const auto* x = reinterpret_cast<const bf16*>(stageAt(step));
    const std::byte* w = stageAt(step) + Tile::kXBytes;
    UnitCodes<K::kCodes ? kClass : WeightClass::int8> codes[Tile::kEights];
    if constexpr (K::kCodes) {
#pragma unroll
      for (int eight = 0; eight < Tile::kEights; ++eight) {
        codes[eight].read(w + (warpOutput / 8 + eight) * K::kUnitBytes, lane);
        codes[eight].prepare();
      }
    }
#pragma unroll
    for (int k16 = 0; k16 < kTileInputs / 16; ++k16) {
      std::uint32_t b[Tile::kEights][2];
      if constexpr (K::kCodes) {
#pragma unroll
        for (int eight = 0; eight < Tile::kEights; ++eight) {
          const uint2 pairs = codes[eight].operand(k16, k128);
          b[eight][0] = pairs.x;
          b[eight][1] = pairs.y;
        }
      } else {
#pragma unroll
        for (int pair = 0; pair < Tile::kEights / 2; ++pair) {
          // Matrices: outputs 0-7 with the first and second 8 inputs, then outputs 8-15.
          std::uint32_t matrices[4];
          const int output = warpOutput + 16 * pair + lane / 16 * 8 + lane % 8;
          loadMatrices(matrices, reinterpret_cast<const bf16*>(w) + swizzled(output, 2 * k16 + lane / 8 % 2));
          b[2 * pair][0] = matrices[0];
          b[2 * pair][1] = matrices[1];
          b[2 * pair + 1][0] = matrices[2];
          b[2 * pair + 1][1] = matrices[3];
        }
      }
#pragma unroll
      for (int tile = 0; tile < Tile::kRowTiles; ++tile) {
        // Matrices: rows 0-7, rows 8-15 with the first 8 inputs, then with the second.
        std::uint32_t a[4];
        loadMatrices(a, x + swizzled(warpRow + 16 * tile + lane % 16, 2 * k16 + lane / 16));
#pragma unroll
        for (int eight = 0; eight < Tile::kEights; ++eight) {
          multiplyTiles(sums[tile][eight], a, b[eight][0], b[eight][1]);
        }
      }
    }
  }

  const int first = firstEight + warpOutput / 8;
  const int left = problem.eights() - first, count = left < Tile::kEights ? left : Tile::kEights;
#pragma unroll
  for (int tile = 0; tile < Tile::kRowTiles; ++tile) {
    const std::int64_t row = firstRow + warpRow + 16 * tile + lane / 4;
    storeRows(problem, row, first, count, sums[tile]);
  }
}

template <class Tile>
void launchTiles(const MatmulProblem& problem, Stream stream) {
  const auto parts = [](std::int64_t whole, int part) {
    return static_cast<unsigned>((whole + part - 1) / part);
  };
  // Rows change fastest: the blocks that run together share W's tiles, and x stays in L2.
  const dim3 grid(parts(problem.rows, Tile::kRows), parts(problem.eights(), Tile::kOutputs / 8));
  const auto launchClass = [&]<WeightClass kClass>() {
    launchShared("matmul", multiply<Tile, kClass>, grid, Tile::kThreads, Kernel<Tile, kClass>::kSharedBytes,
                 stream, problem);
  };
  switch (problem.w.weightClass) {
    case WeightClass::bf16:
      return launchClass.template operator()<WeightClass::bf16>();
    case WeightClass::int8:
      return launchClass.template operator()<WeightClass::int8>();
    case WeightClass::int4:
      return launchClass.template operator()<WeightClass::int4>();
  }
}

}  // namespace

void matmulByMma(const MatmulProblem& problem, int sms, Stream stream) {
  if (problem.rows <= 16) return launchTiles<FewRows>(problem, stream);
  const std::int64_t wideTiles = (problem.rows + 127) / 128 * ((problem.eights() + 15) / 16);
  if (wideTiles < sms) return launchTiles<SomeRows>(problem, stream);
  launchTiles<ManyRows>(problem, stream);
}

}  // namespace tandem::cuda
