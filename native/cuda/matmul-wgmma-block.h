#pragma once

// What the warps of a block of matmul-wgmma.cu share: which tiles they compute one after another, and their
// shared memory.

#include <cstddef>

#include "cuda/bulk-copies.h"
#include "cuda/kernel.h"
#include "cuda/matmul-plan.h"
#include "cuda/matmul-problem.h"
#include "cuda/ring-turn.h"

namespace tandem::cuda::wgmma_matmul {

struct Work {
  MatmulProblem problem;
  MatmulPlan plan;
};

struct TilePlace {
  int firstRow, endRow;
  int firstEight, eights;
};

// Tiles of a band of rows go together, rows fastest: the blocks that run at a time share W's tiles and a
// piece of x that L2 holds.
template <int kRows>
__device__ TilePlace placeOf(const Work& work, int item) {
  constexpr int kBandTiles = kBandRows / kRows;
  const MatmulPlan& plan = work.plan;
  const int band = item / (kBandTiles * plan.columnTiles), inBand = item % (kBandTiles * plan.columnTiles);
  const int left = plan.rowTiles - band * kBandTiles, height = left < kBandTiles ? left : kBandTiles;
  const int row = band * kBandTiles + inBand % height, rows = static_cast<int>(work.problem.rows);
  const int column = inBand / height, eights = work.problem.eights();
  const int first = firstEightOf(column, plan.columnTiles, eights, work.problem.granularity());
  return {firstRowOf(row, plan.boxRows, plan.tallTiles),
          min(rows, firstRowOf(row + 1, plan.boxRows, plan.tallTiles)), first,
          firstEightOf(column + 1, plan.columnTiles, eights, work.problem.granularity()) - first};
}

struct Barriers {
  Barrier loaded[kMostStages], used[kMostStages];  // stages
};
static_assert(sizeof(Barriers) <= kBarrierBytes);

struct Shared {
  std::byte* stages;
  Barriers* barriers;
};

__device__ inline Shared divideShared(const MatmulPlan& plan) {
  std::byte* begin = dynamicShared();
  return {begin, reinterpret_cast<Barriers*>(begin + plan.sharedBytes - kBarrierBytes)};
}

// What the compiler knows of a kernel.
template <int kWarpgroups, int kEightsOf, int kRowsOf, WeightClass kClassOf>
struct Kernel {
  static constexpr WeightClass kClass = kClassOf;
  static constexpr int kEights = kEightsOf;  // of outputs, of a warp
  static constexpr int kRows = kRowsOf;
  static constexpr MatmulTile kTile{kWarpgroups, kEights, kRows};
  static constexpr bool kCodes = kClass != WeightClass::bf16;
  static constexpr int kMultiplyingWarps = 4 * kWarpgroups;
  static constexpr int kDepth = kTile.depth(kClass);
  // To begin a copy takes a warp 200 ns, whatever its size: several take stages in turn.
  static constexpr int kLoadingWarps = 3;  // of W; one more loads x
  // Or a warp might take the parity of a stage for that of two turns before.
  static_assert(kLoadingWarps <= kFewestStages);
  static constexpr int kThreads = 32 * (kMultiplyingWarps + 1 + kLoadingWarps);
  static constexpr int kBlocks = kTile.halfSm() ? 2 : 1;  // of an SM
  // Registers that a thread of the multiplying warps has, and what is left to one of the others, where the
  // first take more than an equal share.
  static constexpr int kTaken = kRows > 64 ? 240 : 112;
  static constexpr int kLeft = kRows > 64 ? 24 : 32;
  static constexpr bool kExchange = kRows > 64 || (kCodes && kWarpgroups == 4 && kRows == 64);
  static constexpr int kUnitBytes = unitBytesOf(kClass);
  static constexpr int kProducts = kTileInputs / 16;  // of a step
};

// action(tile) for each tile of this block.
template <class K, class Action>
__device__ void forTiles(const Work& work, Action action) {
  const int tiles = work.plan.rowTiles * work.plan.columnTiles;
  for (int item = static_cast<int>(blockIdx.x); item < tiles; item += static_cast<int>(gridDim.x)) {
    action(placeOf<K::kRows>(work, item));
  }
}

// action(tile, first step, steps) for each stage of each tile of this block.
template <class K, class Action>
__device__ void forStages(const Work& work, Action action) {
  const int steps = work.problem.steps();
  forTiles<K>(work, [&](const TilePlace& tile) {
    for (int step = 0; step < steps; step += K::kDepth) {
      action(tile, step, steps - step < K::kDepth ? steps - step : K::kDepth);
    }
  });
}

}  // namespace tandem::cuda::wgmma_matmul
