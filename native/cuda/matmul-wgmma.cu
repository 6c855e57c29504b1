// A block keeps a pipeline of bulk copies going from global to shared memory, from its first instant through
// all of its tiles. One warp starts the copies; one or two warpgroups multiply 64 rows each by all outputs of
// the tile; for int8 further warps make bf16 of codes in between. The rows of x are the product's 64 rows,
// most of which are idle in decode: nothing waits for them there.
//
// Bytes: W once for every tile of rows, x once for every tile of columns. FLOP: 2 * rows * outputs * inputs.

#include "cuda/matmul-wgmma.h"

#include "cuda/bulk-copies.h"
#include "cuda/kernel.h"
#include "cuda/matmul-tile.h"
#include "cuda/wgmma.h"

namespace tandem::cuda {
namespace {

struct Work {
  MatmulProblem problem;
  MatmulPlan plan;
};

struct TilePlace {
  std::int64_t firstRow;
  int firstEight, eights;
};

// Tiles of a band of rows go together, rows fastest: the blocks that run at a time share W's tiles and a
// piece of x that L2 holds.
__device__ TilePlace placeOf(const Work& work, int item) {
  const MatmulPlan& plan = work.plan;
  const int band = item / (kBandTiles * plan.columnTiles), inBand = item % (kBandTiles * plan.columnTiles);
  const int left = plan.rowTiles - band * kBandTiles, height = left < kBandTiles ? left : kBandTiles;
  const int column = inBand / height, eights = work.problem.eights();
  const int first = firstEightOf(column, plan.columnTiles, eights, work.problem.granularity());
  return {std::int64_t{64} * plan.warpgroups * (band * kBandTiles + inBand % height), first,
          firstEightOf(column + 1, plan.columnTiles, eights, work.problem.granularity()) - first};
}

// A place in a ring, and the parity of the phase that it is in.
struct Turn {
  int place = 0;
  unsigned parity = 0;

  __device__ void advance(int places) {
    if (++place == places) {
      place = 0;
      parity ^= 1;
    }
  }
};

template <int kWarpgroups, int kOutputs, bool kInt8>
struct Kernel {
  static constexpr int kMultiplyingWarps = 4 * kWarpgroups;
  static constexpr int kExpandingWarps = !kInt8 ? 0 : kWarpgroups == 1 ? 7 : 3;
  // Whole warpgroups where registers are exchanged: 256 outputs need more than an equal share.
  static constexpr bool kExchange = kOutputs == 256 && (kInt8 || kWarpgroups == 2);
  static constexpr int kOtherWarps = kExchange ? (1 + kExpandingWarps + 3) / 4 * 4 : 1 + kExpandingWarps;
  static constexpr int kThreads = 32 * (kMultiplyingWarps + kOtherWarps);
  // Of 384 threads and 65536 registers.
  static constexpr int kMultiplyingRegisters = kInt8 ? 216 : 240;
  static constexpr int kOtherRegisters = !kInt8 ? 24 : kWarpgroups == 1 ? 144 : 72;
  static_assert(!kExchange || kThreads == 384);
  static constexpr int kEights = kOutputs / kOutputsOfUnit;

  struct Barriers {
    Barrier loaded[kMostStages], used[kMostStages];  // stages
    Barrier expanded[kExpandedSlots], multiplied[kExpandedSlots];
  };
  static_assert(sizeof(Barriers) <= kBarrierBytes);

  struct Shared {
    std::byte* stages;
    std::byte* expanded;
    Barriers* barriers;
  };

  __device__ static Shared divide(const MatmulPlan& plan) {
    std::byte* begin = dynamicShared();
    return {begin, begin + plan.stages * plan.stageBytes,
            reinterpret_cast<Barriers*>(begin + plan.sharedBytes - kBarrierBytes)};
  }

#if defined(TANDEM_WGMMA)

  template <class Action>
  __device__ static void forTiles(const Work& work, Action action) {
    const int tiles = work.plan.rowTiles * work.plan.columnTiles;
    for (int item = static_cast<int>(blockIdx.x); item < tiles; item += static_cast<int>(gridDim.x)) {
      action(placeOf(work, item));
    }
  }

  // One warp: lane 0 loads x, lane i the part of W that lies in the i-th of the tiles that it is packed in.
  __device__ static void load(const Work& work, const RowsMap& x, const Shared& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const WeightTiles& w = work.problem.w;
    constexpr int kPacked = kTileOutputs / kOutputsOfUnit;
    constexpr int kUnitBytes = kInt8 ? kInt8UnitBytes : kBf16UnitBytes;
    const int steps = work.problem.steps(), xBytes = work.plan.boxRows * 128;
    Turn stage;
    forTiles(work, [&](const TilePlace& tile) {
      const int begin = tile.firstEight, end = begin + tile.eights;
      int mine = (begin / kPacked + lane) * kPacked, mineEnd = mine + kPacked;
      if (mine < begin) mine = begin;
      if (mineEnd > end) mineEnd = end;
      const std::byte* source = w.data + w.unitOffset(mine, 0);
      const int offset = xBytes + (mine - begin) * kUnitBytes, bytes = (mineEnd - mine) * kUnitBytes;
      for (int step = 0; step < steps; ++step) {
        waitFor(shared.barriers->used[stage.place], stage.parity ^ 1);
        Barrier& loaded = shared.barriers->loaded[stage.place];
        std::byte* to = shared.stages + stage.place * work.plan.stageBytes;
        if (lane == 0) arriveExpecting(loaded, xBytes + tile.eights * kUnitBytes);
        __syncwarp();
        if (bytes > 0) copyBulk(to + offset, source, bytes, loaded);
        if (lane == 0) copyBox(to, x, static_cast<int>(tile.firstRow), step * kTileInputs, loaded);
        source += kPacked * kUnitBytes;
        stage.advance(work.plan.stages);
      }
    });
  }

  // Makes bf16 of a stage's codes, in a slot of its own.
  __device__ static void expand(const Work& work, const Shared& shared) {
    const int thread = static_cast<int>(threadIdx.x) - 32 * (kMultiplyingWarps + 1);
    const int steps = work.problem.steps(), xBytes = work.plan.boxRows * 128;
    const int slotBytes = work.plan.tileEights * kBf16UnitBytes;
    Turn stage, slot;
    forTiles(work, [&](const TilePlace& tile) {
      for (int step = 0; step < steps; ++step) {
        waitFor(shared.barriers->loaded[stage.place], stage.parity);
        waitFor(shared.barriers->multiplied[slot.place], slot.parity ^ 1);
        const std::byte* units = shared.stages + stage.place * work.plan.stageBytes + xBytes;
        auto* out = reinterpret_cast<bf16*>(shared.expanded + slot.place * slotBytes);
        // Pieces of 16 codes: four of an output, 32 of a unit.
        for (int index = thread; index < 32 * tile.eights; index += 32 * kExpandingWarps) {
          const std::byte* unit = units + index / 32 * kInt8UnitBytes;
          const bf16 scale = reinterpret_cast<const bf16*>(unit + kInt8CodeBytes)[index / 4 % 8];
          expandPiece(reinterpret_cast<const uint4*>(unit)[index % 32], scale, out, index / 4, index % 4);
        }
        publishToTensorCores();
        __syncwarp();
        if (thread % 32 == 0) {
          arrive(shared.barriers->expanded[slot.place]);
          arrive(shared.barriers->used[stage.place]);
        }
        stage.advance(work.plan.stages);
        slot.advance(kExpandedSlots);
      }
    });
  }

  __device__ static void multiplyTiles(const Work& work, const Shared& shared) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int steps = work.problem.steps(), xBytes = work.plan.boxRows * 128;
    const int slotBytes = work.plan.tileEights * kBf16UnitBytes;
    const int xOffset = warp / 4 * 64 * 128;
    Turn stage, slot;
    forTiles(work, [&](const TilePlace& tile) {
      float sums[kEights][4];
#pragma unroll
      for (int eight = 0; eight < kEights; ++eight) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[eight][i] = 0;
      }
      int lastStage = 0, lastSlot = 0;
      const auto release = [&] {
        if (lane != 0) return;
        arrive(shared.barriers->used[lastStage]);
        if constexpr (kInt8) arrive(shared.barriers->multiplied[lastSlot]);
      };
      for (int step = 0; step < steps; ++step) {
        waitFor(shared.barriers->loaded[stage.place], stage.parity);
        const std::byte* x = shared.stages + stage.place * work.plan.stageBytes;
        const std::byte* w = x + xBytes;
        if constexpr (kInt8) {
          waitFor(shared.barriers->expanded[slot.place], slot.parity);
          w = shared.expanded + slot.place * slotBytes;
        }
        beginProducts();
#pragma unroll
        for (int k16 = 0; k16 < kTileInputs / 16; ++k16) {
          multiply(sums, operandAt(x + xOffset, k16), operandAt(w, k16));
        }
        endProductGroup();
        // The step before is done when no more than this one is left.
        waitForProducts<1>();
        if (step > 0) release();
        lastStage = stage.place;
        lastSlot = slot.place;
        stage.advance(work.plan.stages);
        slot.advance(kExpandedSlots);
      }
      waitForProducts<0>();
      release();
      const std::int64_t row = tile.firstRow + 16 * warp;
      if (row >= work.problem.rows) return;
      storeRow<0>(work.problem, row + lane / 4, tile.firstEight, tile.eights, sums);
      storeRow<1>(work.problem, row + lane / 4 + 8, tile.firstEight, tile.eights, sums);
    });
  }

#endif
};

template <int kWarpgroups, int kOutputs, bool kInt8>
__global__ void __launch_bounds__(Kernel<kWarpgroups, kOutputs, kInt8>::kThreads, 1)
    multiplyPipelined(const Work work, const __grid_constant__ RowsMap x) {
#if defined(TANDEM_WGMMA)
  using K = Kernel<kWarpgroups, kOutputs, kInt8>;
  const typename K::Shared shared = K::divide(work.plan);
  if (threadIdx.x == 0) {
    for (int i = 0; i < work.plan.stages; ++i) {
      initialise(shared.barriers->loaded[i], 1);
      initialise(shared.barriers->used[i], K::kMultiplyingWarps + K::kExpandingWarps);
    }
    for (int i = 0; kInt8 && i < kExpandedSlots; ++i) {
      initialise(shared.barriers->expanded[i], K::kExpandingWarps);
      initialise(shared.barriers->multiplied[i], K::kMultiplyingWarps);
    }
    publishBarriers();
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < K::kMultiplyingWarps) {
    if constexpr (K::kExchange) takeRegisters<K::kMultiplyingRegisters>();
    K::multiplyTiles(work, shared);
    return;
  }
  if constexpr (K::kExchange) giveRegisters<K::kOtherRegisters>();
  if (warp == K::kMultiplyingWarps) {
    K::load(work, x, shared);
  } else if (kInt8 && warp <= K::kMultiplyingWarps + K::kExpandingWarps) {
    K::expand(work, shared);
  }
#endif
}

template <int kWarpgroups, int kOutputs>
void launchTiles(const Work& work, Stream stream) {
  const MatmulProblem& problem = work.problem;
  const RowsMap x = makeRowsMap(problem.x, problem.rows, problem.w.inputs, work.plan.boxRows);
  const auto start = [&](auto kernel, unsigned threads) {
    launchShared("matmul", kernel, dim3(static_cast<unsigned>(work.plan.blocks)), threads,
                 work.plan.sharedBytes, stream, work, x);
  };
  if (problem.w.weightClass == WeightClass::int8) {
    start(multiplyPipelined<kWarpgroups, kOutputs, true>, Kernel<kWarpgroups, kOutputs, true>::kThreads);
  } else {
    start(multiplyPipelined<kWarpgroups, kOutputs, false>, Kernel<kWarpgroups, kOutputs, false>::kThreads);
  }
}

}  // namespace

void matmulByWgmma(const MatmulProblem& problem, const MatmulPlan& plan, Stream stream) {
  const Work work{problem, plan};
  if (plan.warpgroups == 1) {
    plan.tileOutputs == 64 ? launchTiles<1, 64>(work, stream) : launchTiles<1, 256>(work, stream);
  } else {
    plan.tileOutputs == 128 ? launchTiles<2, 128>(work, stream) : launchTiles<2, 256>(work, stream);
  }
}

}  // namespace tandem::cuda
