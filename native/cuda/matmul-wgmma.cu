// A block keeps a pipeline of bulk copies going from global to shared memory, from its first instant through
// all of its tiles. Some warps start the copies; warpgroups multiply 64 outputs each by all rows of the tile.
// Outputs are the product's 64 rows, so that one row of x costs no more than its eighth of a column of eight,
// and codes become the bf16 that a tensor core takes from registers, in the lane that read them.
//
// Bytes: W once for every tile of rows, x once for every tile of columns. FLOP: 2 * rows * outputs * inputs.

#include "cuda/matmul-wgmma.h"

#include "core/error.h"
#include "cuda/bulk-copies.h"
#include "cuda/kernel.h"
#include "cuda/matmul-tile.h"
#include "cuda/weight-codes.h"
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
template <int kRows>
__device__ TilePlace placeOf(const Work& work, int item) {
  constexpr int kBandTiles = kBandRows / kRows;
  const MatmulPlan& plan = work.plan;
  const int band = item / (kBandTiles * plan.columnTiles), inBand = item % (kBandTiles * plan.columnTiles);
  const int left = plan.rowTiles - band * kBandTiles, height = left < kBandTiles ? left : kBandTiles;
  const int column = inBand / height, eights = work.problem.eights();
  const int first = firstEightOf(column, plan.columnTiles, eights, work.problem.granularity());
  return {std::int64_t{kRows} * (band * kBandTiles + inBand % height), first,
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

template <int kWarpgroups, int kEights, int kRows, WeightClass kClass>
struct Kernel {
  static constexpr MatmulTile kTile{kWarpgroups, kEights, kRows};
  static constexpr int kMultiplyingWarps = 4 * kWarpgroups;
  static constexpr int kDepth = kTile.depth(kClass);
  // To begin a copy takes a warp 200 ns, whatever its size: several take stages in turn.
  static constexpr int kLoadingWarps = 3;  // of W; one more loads x
  // Or a warp might take the parity of a stage for that of two turns before.
  static_assert(kLoadingWarps <= kFewestStages);
  static constexpr int kThreads = 32 * (kMultiplyingWarps + 1 + kLoadingWarps);
  static constexpr int kBlocks = kTile.halfSm() ? 2 : 1;  // of an SM
  // Many rows take more than a warp's equal share of registers.
  static constexpr bool kExchange = kRows > 128;
  static constexpr bool kCodes = kClass != WeightClass::bf16;
  static constexpr int kUnitBytes = unitBytesOf(kClass);
  static constexpr int kProducts = kTileInputs / 16;  // of a step

  struct Barriers {
    Barrier loaded[kMostStages], used[kMostStages];  // stages
  };
  static_assert(sizeof(Barriers) <= kBarrierBytes);

  struct Shared {
    std::byte* stages;
    Barriers* barriers;
  };

  __device__ static Shared divide(const MatmulPlan& plan) {
    std::byte* begin = dynamicShared();
    return {begin, reinterpret_cast<Barriers*>(begin + plan.sharedBytes - kBarrierBytes)};
  }

#if defined(TANDEM_WGMMA)

  // action(tile, first step, steps) for each stage of each tile of this block.
  template <class Action>
  __device__ static void forStages(const Work& work, Action action) {
    const int steps = work.problem.steps();
    forTiles(work, [&](const TilePlace& tile) {
      for (int step = 0; step < steps; step += kDepth) {
        action(tile, step, steps - step < kDepth ? steps - step : kDepth);
      }
    });
  }
  template <class Action>
  __device__ static void forTiles(const Work& work, Action action) {
    const int tiles = work.plan.rowTiles * work.plan.columnTiles;
    for (int item = static_cast<int>(blockIdx.x); item < tiles; item += static_cast<int>(gridDim.x)) {
      action(placeOf<kRows>(work, item));
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
    constexpr int kPieces = 32 / kMostDepth;
    static_assert(kPieces > kTile.mostEights() / kPacked + 1);
    const int lane = static_cast<int>(threadIdx.x) % 32, inStage = lane / kPieces;
    const WeightTiles& w = work.problem.w;
    const int wBegin = kDepth * work.plan.boxRows * 128;
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

  using Codes = UnitCodes<kCodes ? kClass : WeightClass::int8>[kEights];

  // units[i]: where in a step's W the warp's eight i lies.
  __device__ static void read(const std::byte* w, const int (&units)[kEights], Codes& codes) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < kEights; ++i) codes[i].read(w + units[i], lane);
  }

  __device__ static void expand(Codes& codes, std::uint32_t (&operands)[kProducts][4]) {
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
      codes[i].prepare();
#pragma unroll
      for (int k16 = 0; k16 < kProducts; ++k16) {
        const uint2 pairs = codes[i].operand(k16);
        operands[k16][i] = pairs.x;
        operands[k16][i + 2] = pairs.y;
      }
    }
    if constexpr (kEights == 1) {
#pragma unroll
      for (int k16 = 0; k16 < kProducts; ++k16) operands[k16][1] = operands[k16][3] = 0;
    }
  }

  __device__ static void multiplyTiles(const Work& work, const Shared& shared, int warp) {
    const int steps = work.problem.steps(), xBytes = work.plan.boxRows * 128;
    const int wBytes = work.plan.tileEights * kUnitBytes;
    const bool first = threadIdx.x % 32 == 0;
    Turn stage;
    forTiles(work, [&](const TilePlace& tile) {
      float sums[kRows / 8][4];
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[j][i] = 0;
      }
      int units[kEights];
#pragma unroll
      for (int i = 0; i < kEights; ++i) {
        const int unit = kEights * warp + i;
        // A warp without outputs computes those of another.
        units[i] = (unit < tile.eights ? unit : tile.eights - 1) * kUnitBytes;
      }
      int done = 0;
      // Of the stage before, when no more than the group that was just begun is left.
      const auto release = [&] {
        waitForProducts<1>();
        if (first) arrive(shared.barriers->used[done]);
      };
      const std::byte *x = nullptr, *w = nullptr;
      const auto enter = [&] {
        waitFor(shared.barriers->loaded[stage.place], stage.parity);
        x = shared.stages + stage.place * work.plan.stageBytes;
        w = x + kDepth * xBytes;
      };
      const auto leave = [&] {
        done = stage.place;
        stage.advance(work.plan.stages);
      };
      if constexpr (kCodes) {
        std::uint32_t even[kProducts][4], odd[kProducts][4];
        const auto multiplyStep = [&](const std::uint32_t(&operands)[kProducts][4]) {
          beginProducts();
#pragma unroll
          for (int k16 = 0; k16 < kProducts; ++k16) multiply(sums, operands[k16], operandAt(x, k16));
          endProductGroup();
        };
        for (int step = 0; step < steps; step += 2) {
          Codes codes;
          if (step % kDepth == 0) enter();
          read(w, units, codes);
          expand(codes, even);
          if constexpr (kDepth > 1) read(w + wBytes, units, codes);
          multiplyStep(even);
          if (step % kDepth == 0 && step > 0) {
            release();
          } else {
            waitForProducts<1>();
          }
          if constexpr (kDepth == 1) {
            leave();
            enter();
            read(w, units, codes);
          } else {
            x += xBytes;
          }
          expand(codes, odd);
          multiplyStep(odd);
          if constexpr (kDepth == 1) {
            release();
          } else {
            waitForProducts<1>();
            x += xBytes;
            w += 2 * wBytes;
          }
          if (kDepth <= 2 || (step + 2) % kDepth == 0 || step + 2 == steps) leave();
        }
      } else {
        for (int step = 0; step < steps; step += kDepth) {
          enter();
          w += warp / 4 * (kTileOutputs * kTileInputs * 2);
          const int count = steps - step < kDepth ? steps - step : kDepth;
          for (int i = 0; i < count; ++i) {
            beginProducts();
#pragma unroll
            for (int k16 = 0; k16 < kProducts; ++k16) {
              multiply(sums, operandAt(w + i * wBytes, k16), operandAt(x + i * xBytes, k16));
            }
          }
          endProductGroup();
          if (step > 0) release();
          leave();
        }
      }
      waitForProducts<0>();
      if (first) arrive(shared.barriers->used[done]);
      store(work.problem, tile, warp, sums);
    });
  }

  // Eight i of the warp is rows g + 8i of the product, where g = lane / 4; a lane holds two rows of x, 2t and
  // the next of each eight.
  __device__ static void store(const MatmulProblem& problem, const TilePlace& tile, int warp,
                               const float (&sums)[kRows / 8][4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, width = problem.width();
    const std::int64_t row = tile.firstRow + lane % 4 * 2;
    const auto biasOf = [&](int column) {
      return problem.bias && column < problem.w.outputs ? problem.bias[column] : 0.0f;
    };
    const auto forSums = [&](std::int64_t column, int i, auto action) {
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const std::int64_t at = row + 8 * j + k;
          if (at < problem.rows) action(at * width + column, sums[j][2 * i + k], sums[j][2 * (i ^ 1) + k]);
        }
      }
    };
    if (problem.epilogue == Epilogue::swiGlu) {
      if constexpr (kEights == 2) {
        const int column = (tile.firstEight / 2 + warp) * kOutputsOfUnit + g;
        if (2 * warp >= tile.eights || column >= width) return;
        const float gateBias = biasOf(column), upBias = biasOf(width + column);
        forSums(column, 0, [&](std::int64_t at, float gate, float up) {
          static_cast<bf16*>(problem.y)[at] = roundToBf16(silu(gate + gateBias) * (up + upBias));
        });
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
      const int eight = kEights * warp + i, column = (tile.firstEight + eight) * kOutputsOfUnit + g;
      if (eight >= tile.eights || column >= width) return;
      const float bias = biasOf(column);
      if (problem.epilogue == Epilogue::logits) {
        forSums(column, i, [&](std::int64_t at, float sum, float) {
          static_cast<float*>(problem.y)[at] = sum + bias;
        });
      } else if (problem.epilogue == Epilogue::add) {
        forSums(column, i, [&](std::int64_t at, float sum, float) {
          bf16& y = static_cast<bf16*>(problem.y)[at];
          y = roundToBf16(sum + bias + lowFloat(y));
        });
      } else {
        forSums(column, i, [&](std::int64_t at, float sum, float) {
          static_cast<bf16*>(problem.y)[at] = roundToBf16(sum + bias);
        });
      }
    }
  }

#endif
};

template <int kWarpgroups, int kEights, int kRows, WeightClass kClass>
__global__ void __launch_bounds__(Kernel<kWarpgroups, kEights, kRows, kClass>::kThreads,
                                  Kernel<kWarpgroups, kEights, kRows, kClass>::kBlocks)
    multiplyPipelined(const Work work, const __grid_constant__ RowsMap x) {
#if defined(TANDEM_WGMMA)
  using K = Kernel<kWarpgroups, kEights, kRows, kClass>;
  const typename K::Shared shared = K::divide(work.plan);
  if (threadIdx.x == 0) {
    for (int i = 0; i < work.plan.stages; ++i) {
      initialise(shared.barriers->loaded[i], 2);
      initialise(shared.barriers->used[i], K::kMultiplyingWarps);
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
  } else {
    K::loadW(work, shared, other - 1);
  }
#endif
}

template <int kWarpgroups, int kEights, int kRows, WeightClass kClass>
bool launchIf(const Work& work, Stream stream) {
  using K = Kernel<kWarpgroups, kEights, kRows, kClass>;
  if (work.plan.tile != K::kTile) return false;
  const RowsMap x = makeRowsMap(work.problem.x, work.problem.rows, work.problem.w.inputs, work.plan.boxRows);
  launchEarly("matmul", multiplyPipelined<kWarpgroups, kEights, kRows, kClass>,
              dim3(static_cast<unsigned>(work.plan.blocks)), K::kThreads, work.plan.sharedBytes, stream, work,
              x);
  return true;
}

// Few rows of x, by one of the tiles of outputs.
template <WeightClass kClass, int kRows>
bool launchFew(const Work& work, Stream stream) {
  constexpr bool kCodes = kClass != WeightClass::bf16;
  if (launchIf<1, kCodes ? 1 : 2, kRows, kClass>(work, stream)) return true;
  if (launchIf<2, 2, kRows, kClass>(work, stream)) return true;
  if (launchIf<4, 2, kRows, kClass>(work, stream)) return true;
  if constexpr (kCodes) return launchIf<2, 1, kRows, kClass>(work, stream);
  return false;
}

template <WeightClass kClass>
void launchClass(const Work& work, Stream stream) {
  const bool launched = launchFew<kClass, 8>(work, stream) || launchFew<kClass, 16>(work, stream) ||
                        launchFew<kClass, 32>(work, stream) || launchFew<kClass, 64>(work, stream) ||
                        launchIf<2, 2, 128, kClass>(work, stream) ||
                        launchIf<2, 2, 256, kClass>(work, stream);
  check(launched, "there is no kernel for a matmul's plan");
}

}  // namespace

void matmulByWgmma(const MatmulProblem& problem, const MatmulPlan& plan, Stream stream) {
  const Work work{problem, plan};
  switch (problem.w.weightClass) {
    case WeightClass::bf16:
      return launchClass<WeightClass::bf16>(work, stream);
    case WeightClass::int8:
      return launchClass<WeightClass::int8>(work, stream);
    case WeightClass::int4:
      return launchClass<WeightClass::int4>(work, stream);
  }
}

}  // namespace tandem::cuda
