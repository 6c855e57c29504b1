// A block keeps a pipeline of bulk copies going from global to shared memory, from its first instant through
// all of its tiles. One warp starts the copies; one or two warpgroups multiply 64 rows each by all outputs of
// the tile; for int8 further warps make bf16 of codes in between. The rows of x are the product's 64 rows,
// most of which are idle in decode: nothing waits for them there.
//
// Bytes: W once for every tile of rows, x once for every tile of columns. FLOP: 2 * rows * outputs * inputs.

#include "cuda/matmul-wgmma.h"

#include "core/error.h"
#include "cuda/bulk-copies.h"
#include "cuda/kernel.h"
#include "cuda/matmul-tile.h"
#include "cuda/wgmma.h"

// Compiled for other architectures the kernel is empty, and nvcc warns of all that it would use.
#pragma nv_diag_suppress 177

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
  // Copies and expansion take long to begin with, and little else: several warps take stages in turn. One
  // expands for each slot that there may be.
  static constexpr int kLoadingWarps = kInt8 && kOutputs > 64 ? 1 : 3;  // of W; one more loads x
  // Or a warp might take the parity of a stage for that of two turns before.
  static_assert(kLoadingWarps <= kFewestStages);
  static constexpr int kExpandingWarps = kInt8 ? mostSlots(kOutputs) : 0;
  static constexpr int kThreads = 32 * (kMultiplyingWarps + 1 + kLoadingWarps + kExpandingWarps);
  static constexpr int kEights = kOutputs / kOutputsOfUnit;
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

  // action(tile, first step, steps) for each stage of each tile of this block.
  template <class Action>
  __device__ static void forStages(const Work& work, Action action) {
    const int steps = work.problem.steps(), depth = work.plan.depth;
    forTiles(work, [&](const TilePlace& tile) {
      for (int step = 0; step < steps; step += depth) {
        action(tile, step, steps - step < depth ? steps - step : depth);
      }
    });
  }
  template <class Action>
  __device__ static void forTiles(const Work& work, Action action) {
    const int tiles = work.plan.rowTiles * work.plan.columnTiles;
    for (int item = static_cast<int>(blockIdx.x); item < tiles; item += static_cast<int>(gridDim.x)) {
      action(placeOf(work, item));
    }
  }

  // Lane i loads step i of the stage.
  __device__ static void loadX(const Work& work, const RowsMap& x, const Shared& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32, xBytes = work.plan.boxRows * 128;
    Turn stage;
    forStages(work, [&](const TilePlace& tile, int step, int count) {
      waitFor(shared.barriers->used[stage.place], stage.parity ^ 1);
      Barrier& loaded = shared.barriers->loaded[stage.place];
      if (lane == 0) arriveExpecting(loaded, count * xBytes);
      __syncwarp();
      if (lane < count) {
        copyBox(shared.stages + stage.place * work.plan.stageBytes + lane * xBytes, x,
                static_cast<int>(tile.firstRow), (step + lane) * kTileInputs, loaded);
      }
      stage.advance(work.plan.stages);
    });
  }

  // A lane loads, of one step, what lies in one of the tiles that W is packed in.
  __device__ static void loadW(const Work& work, const Shared& shared, int warp) {
    constexpr int kPacked = kTileOutputs / kOutputsOfUnit;
    constexpr int kUnitBytes = kInt8 ? kInt8UnitBytes : kBf16UnitBytes;
    constexpr int kPieces = 32 / kMostDepth;
    static_assert(kPieces > kOutputs / kTileOutputs + 1);
    const int lane = static_cast<int>(threadIdx.x) % 32, inStage = lane / kPieces;
    const WeightTiles& w = work.problem.w;
    const int wBegin = work.plan.depth * work.plan.boxRows * 128;
    Turn stage, turn;
    forStages(work, [&](const TilePlace& tile, int step, int count) {
      if (turn.place == warp) {
        const int begin = tile.firstEight, end = begin + tile.eights;
        const int packed = (begin / kPacked + lane % kPieces) * kPacked;
        const int first = packed < begin ? begin : packed;
        const int last = packed + kPacked < end ? packed + kPacked : end;
        const std::byte* source = w.data + w.unitOffset(first, step + inStage);
        std::byte* to = shared.stages + stage.place * work.plan.stageBytes + wBegin +
                        (inStage * work.plan.tileEights + first - begin) * kUnitBytes;
        waitFor(shared.barriers->used[stage.place], stage.parity ^ 1);
        Barrier& loaded = shared.barriers->loaded[stage.place];
        if (lane == 0) arriveExpecting(loaded, count * tile.eights * kUnitBytes);
        __syncwarp();
        if (inStage < count && first < last) copyBulk(to, source, (last - first) * kUnitBytes, loaded);
      }
      stage.advance(work.plan.stages);
      turn.advance(kLoadingWarps);
    });
  }

  // Makes bf16 of a stage's codes, in the slot that is this warp's own.
  __device__ static void expand(const Work& work, const Shared& shared, int warp) {
    constexpr int kAtOnce = 4;  // units whose codes are read before the first is written
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int wBegin = work.plan.depth * work.plan.boxRows * 128, stride = work.plan.tileEights;
    Turn stage, slot;
    forStages(work, [&](const TilePlace& tile, int, int count) {
      if (slot.place == warp) {
        // In this order: where the slot is free, all stages before its last one are done with, and the parity
        // means this turn of the stage and no earlier one.
        waitFor(shared.barriers->multiplied[slot.place], slot.parity ^ 1);
        waitFor(shared.barriers->loaded[stage.place], stage.parity);
        for (int step = 0; step < count; ++step) {
          const std::byte* units =
              shared.stages + stage.place * work.plan.stageBytes + wBegin + step * stride * kInt8UnitBytes;
          std::byte* out = shared.expanded + (slot.place * work.plan.depth + step) * stride * kBf16UnitBytes;
          for (int begin = 0; begin < tile.eights; begin += kAtOnce) {
            uint4 codes[kAtOnce];
            bf16 scales[kAtOnce];
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
              const int eight = begin + i;
              const std::byte* unit = units + (eight < tile.eights ? eight : begin) * kInt8UnitBytes;
              // A lane's piece of a unit is 16 codes: a quarter of an output.
              codes[i] = reinterpret_cast<const uint4*>(unit)[lane];
              scales[i] = reinterpret_cast<const bf16*>(unit + kInt8CodeBytes)[lane / 4];
            }
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
              const int eight = begin + i;
              if (eight >= tile.eights) break;
              expandPiece(codes[i], scales[i], reinterpret_cast<bf16*>(out + eight * kBf16UnitBytes),
                          lane / 4, lane % 4);
            }
          }
        }
        publishToTensorCores();
        __syncwarp();
        if (lane == 0) {
          arrive(shared.barriers->used[stage.place]);
          arrive(shared.barriers->expanded[slot.place]);
        }
      }
      stage.advance(work.plan.stages);
      slot.advance(work.plan.slots);
    });
  }

  __device__ static void multiplyTiles(const Work& work, const Shared& shared, int warp) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int steps = work.problem.steps(), depth = work.plan.depth, xBytes = work.plan.boxRows * 128;
    const int wBytes = work.plan.tileEights * kBf16UnitBytes;
    Turn stage, slot;
    forTiles(work, [&](const TilePlace& tile) {
      float sums[kEights][4];
#pragma unroll
      for (int eight = 0; eight < kEights; ++eight) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[eight][i] = 0;
      }
      int doneStage = 0, doneSlot = 0;
      const auto release = [&] {
        if (lane != 0) return;
        arrive(shared.barriers->used[doneStage]);
        if constexpr (kInt8) arrive(shared.barriers->multiplied[doneSlot]);
      };
      for (int step = 0; step < steps; step += depth) {
        waitFor(shared.barriers->loaded[stage.place], stage.parity);
        const std::byte* x = shared.stages + stage.place * work.plan.stageBytes;
        const std::byte* w = x + depth * xBytes;
        if constexpr (kInt8) {
          waitFor(shared.barriers->expanded[slot.place], slot.parity);
          w = shared.expanded + slot.place * depth * wBytes;
        }
        x += warp / 4 * 64 * 128;
        const int count = steps - step < depth ? steps - step : depth;
        for (int i = 0; i < count; ++i) {
          beginProducts();
#pragma unroll
          for (int k16 = 0; k16 < kTileInputs / 16; ++k16) {
            multiply(sums, operandAt(x + i * xBytes, k16), operandAt(w + i * wBytes, k16));
          }
        }
        endProductGroup();
        // The stage before is done when no more than this one is left.
        waitForProducts<1>();
        if (step > 0) release();
        doneStage = stage.place;
        doneSlot = slot.place;
        stage.advance(work.plan.stages);
        slot.advance(work.plan.slots);
      }
      waitForProducts<0>();
      release();
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
      initialise(shared.barriers->loaded[i], 2);
      initialise(shared.barriers->used[i], K::kMultiplyingWarps + (kInt8 ? 1 : 0));
    }
    for (int i = 0; i < work.plan.slots; ++i) {
      initialise(shared.barriers->expanded[i], 1);
      initialise(shared.barriers->multiplied[i], K::kMultiplyingWarps);
    }
    publishBarriers();
  }
  letNextKernelBegin();
  __syncthreads();
  // By way of a lane, so that the compiler sees that a warp's lanes agree.
  const int warp = __shfl_sync(kWholeWarp, static_cast<int>(threadIdx.x) / 32, 0);
  const int other = warp - K::kMultiplyingWarps;
  if (other < 0) {
    if constexpr (K::kExchange) takeRegisters<240>();
    waitForKernelsBefore();
    K::multiplyTiles(work, shared, warp);
    return;
  }
  if constexpr (K::kExchange) giveRegisters<24>();
  if (other == 0) {
    // Weights are loaded meanwhile: nothing writes them.
    waitForKernelsBefore();
    K::loadX(work, x, shared);
  } else if (other <= K::kLoadingWarps) {
    K::loadW(work, shared, other - 1);
  } else if constexpr (kInt8) {
    K::expand(work, shared, other - 1 - K::kLoadingWarps);
  }
#endif
}

template <int kWarpgroups, int kOutputs, bool kInt8>
void launchTiles(const Work& work, Stream stream) {
  const RowsMap x = makeRowsMap(work.problem.x, work.problem.rows, work.problem.w.inputs, work.plan.boxRows);
  launchEarly("matmul", multiplyPipelined<kWarpgroups, kOutputs, kInt8>,
              dim3(static_cast<unsigned>(work.plan.blocks)), Kernel<kWarpgroups, kOutputs, kInt8>::kThreads,
              work.plan.sharedBytes, stream, work, x);
}

template <bool kInt8>
void launchClass(const Work& work, Stream stream) {
  const int outputs = work.plan.tileOutputs;
  if (work.plan.warpgroups == 1) {
    if (outputs == 32) return launchTiles<1, 32, kInt8>(work, stream);
    if (outputs == 64) return launchTiles<1, 64, kInt8>(work, stream);
  } else {
    if (outputs == 128) return launchTiles<2, 128, kInt8>(work, stream);
    if constexpr (!kInt8) {
      if (outputs == 256) return launchTiles<2, 256, kInt8>(work, stream);
    }
  }
  throw Error("there is no kernel for a matmul's plan");
}

}  // namespace

void matmulByWgmma(const MatmulProblem& problem, const MatmulPlan& plan, Stream stream) {
  const Work work{problem, plan};
  problem.w.weightClass == WeightClass::int8 ? launchClass<true>(work, stream)
                                             : launchClass<false>(work, stream);
}

}  // namespace tandem::cuda
