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
  // Loading and expanding take long to begin with, and little else: several warps take steps in turn.
  // The widest tile has registers for four beside its own.
  static constexpr bool kWidest = kWarpgroups == 2 && kOutputs == 256;
  static constexpr int kLoadingWarps = !kInt8 ? 4 : kWidest ? 1 : 2;
  static constexpr int kTeams = !kInt8 ? 0 : kOutputs <= 64 ? 6 : 3;  // of expanding warps
  static constexpr int kTeamWarps = kTeams == 0 ? 0 : kWidest || kTeams == 6 ? 1 : 2;
  static constexpr int kWarps = kMultiplyingWarps + kLoadingWarps + kTeams * kTeamWarps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kEights = kOutputs / kOutputsOfUnit;
  static constexpr int kSlots = expandedSlots(kOutputs);
  // Groups of products that are not done while the next is begun: narrow ones take longer to begin than to
  // do.
  static constexpr int kProductsLeft = kOutputs <= 64 ? 3 : 1;
  // Warpgroups of 256 outputs take more than their equal share of registers.
  static constexpr bool kExchange = kThreads * (kOutputs / 2 + 48) > 65536;
  static_assert(kThreads % 128 == 0);

  struct Barriers {
    Barrier loaded[kMostStages], used[kMostStages];  // stages
    Barrier expanded[kMostSlots], multiplied[kMostSlots];
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

  // Lane 0 loads x, lane i the part of W that lies in the i-th of the tiles that it is packed in.
  __device__ static void load(const Work& work, const RowsMap& x, const Shared& shared, int warp) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const WeightTiles& w = work.problem.w;
    constexpr int kPacked = kTileOutputs / kOutputsOfUnit;
    constexpr int kUnitBytes = kInt8 ? kInt8UnitBytes : kBf16UnitBytes;
    const int steps = work.problem.steps(), xBytes = work.plan.boxRows * 128;
    Turn stage, mine;
    forTiles(work, [&](const TilePlace& tile) {
      const int begin = tile.firstEight, end = begin + tile.eights;
      const int packed = (begin / kPacked + lane) * kPacked;
      const int first = packed < begin ? begin : packed,
                last = packed + kPacked < end ? packed + kPacked : end;
      const std::byte* source = w.data + w.unitOffset(first, 0);
      const int offset = xBytes + (first - begin) * kUnitBytes, bytes = (last - first) * kUnitBytes;
      for (int step = 0; step < steps; ++step) {
        if (mine.place == warp) {
          waitFor(shared.barriers->used[stage.place], stage.parity ^ 1);
          Barrier& loaded = shared.barriers->loaded[stage.place];
          std::byte* to = shared.stages + stage.place * work.plan.stageBytes;
          if (lane == 0) arriveExpecting(loaded, xBytes + tile.eights * kUnitBytes);
          __syncwarp();
          if (bytes > 0) copyBulk(to + offset, source, bytes, loaded);
          if (lane == 0) copyBox(to, x, static_cast<int>(tile.firstRow), step * kTileInputs, loaded);
        }
        source += kPacked * kUnitBytes;
        stage.advance(work.plan.stages);
        mine.advance(kLoadingWarps);
      }
    });
  }

  // Makes bf16 of a stage's codes, in a slot of its own.
  __device__ static void expand(const Work& work, const Shared& shared, int warp) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int steps = work.problem.steps(), xBytes = work.plan.boxRows * 128;
    const int slotBytes = work.plan.tileEights * kBf16UnitBytes;
    Turn stage, slot, team;
    forTiles(work, [&](const TilePlace& tile) {
      for (int step = 0; step < steps; ++step) {
        if (team.place == warp / kTeamWarps) {
          waitFor(shared.barriers->loaded[stage.place], stage.parity);
          waitFor(shared.barriers->multiplied[slot.place], slot.parity ^ 1);
          const std::byte* units = shared.stages + stage.place * work.plan.stageBytes + xBytes;
          std::byte* out = shared.expanded + slot.place * slotBytes;
          // A lane's piece of a unit is 16 codes: a quarter of an output.
#pragma unroll 4
          for (int eight = warp % kTeamWarps; eight < tile.eights; eight += kTeamWarps) {
            const std::byte* unit = units + eight * kInt8UnitBytes;
            expandPiece(reinterpret_cast<const uint4*>(unit)[lane],
                        reinterpret_cast<const bf16*>(unit + kInt8CodeBytes)[lane / 4],
                        reinterpret_cast<bf16*>(out + eight * kBf16UnitBytes), lane / 4, lane % 4);
          }
          publishToTensorCores();
          __syncwarp();
          if (lane == 0) {
            arrive(shared.barriers->expanded[slot.place]);
            arrive(shared.barriers->used[stage.place]);
          }
        }
        stage.advance(work.plan.stages);
        slot.advance(kSlots);
        team.advance(kTeams);
      }
    });
  }

  __device__ static void multiplyTiles(const Work& work, const Shared& shared, int warp) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int steps = work.problem.steps(), xBytes = work.plan.boxRows * 128;
    const int slotBytes = work.plan.tileEights * kBf16UnitBytes;
    const int xOffset = warp / 4 * 64 * 128;
    Turn stage, slot, doneStage, doneSlot;
    const auto release = [&] {
      if (lane == 0) {
        arrive(shared.barriers->used[doneStage.place]);
        if constexpr (kInt8) arrive(shared.barriers->multiplied[doneSlot.place]);
      }
      doneStage.advance(work.plan.stages);
      doneSlot.advance(kSlots);
    };
    forTiles(work, [&](const TilePlace& tile) {
      float sums[kEights][4];
#pragma unroll
      for (int eight = 0; eight < kEights; ++eight) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[eight][i] = 0;
      }
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
        waitForProducts<kProductsLeft>();
        if (step >= kProductsLeft) release();
        stage.advance(work.plan.stages);
        slot.advance(kSlots);
      }
      waitForProducts<0>();
      for (int left = steps < kProductsLeft ? steps : kProductsLeft; left > 0; --left) release();
      const std::int64_t row = tile.firstRow + 16 * warp;
      if (row >= work.problem.rows) return;
      storeRows(work.problem, row + lane / 4, tile.firstEight, tile.eights, sums);
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
      initialise(shared.barriers->used[i], K::kMultiplyingWarps + K::kTeamWarps);
    }
    for (int i = 0; kInt8 && i < K::kSlots; ++i) {
      initialise(shared.barriers->expanded[i], K::kTeamWarps);
      initialise(shared.barriers->multiplied[i], K::kMultiplyingWarps);
    }
    publishBarriers();
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32, other = warp - K::kMultiplyingWarps;
  if (other < 0) {
    if constexpr (K::kExchange) takeRegisters<!kInt8 ? 240 : kWarpgroups == 2 ? 216 : 192>();
    K::multiplyTiles(work, shared, warp);
    return;
  }
  if constexpr (K::kExchange) giveRegisters<!kInt8 ? 24 : 72>();
  if (other < K::kLoadingWarps) {
    K::load(work, x, shared, other);
  } else if constexpr (kInt8) {
    K::expand(work, shared, other - K::kLoadingWarps);
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
