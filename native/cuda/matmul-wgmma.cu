// A block keeps a pipeline of bulk copies going from global to shared memory, from its first instant through
// all of its tiles. Some warps start the copies; warpgroups multiply 64 outputs each by all rows of the tile.
// Outputs are the product's 64 rows and rows of x its columns, of which there may be as few as eight. Codes
// become bf16 in the registers of the lane that reads them, from where tensor cores take them.
//
// Bytes: W once for every tile of rows, x once for every tile of columns. FLOP: 2 * rows * outputs * inputs.

#include "cuda/matmul-wgmma.h"

#include <utility>

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
        copyBox(shared.stages + stage.place * work.plan.stageBytes + lane * xBytes, x, tile.firstRow,
                (step + lane) * kTileInputs, loaded);
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

  using Operands = std::uint32_t[kProducts][4];

  __device__ static void expand(Codes& codes, std::uint32_t k128, Operands& operands) {
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
      codes[i].prepare();
#pragma unroll
      for (int k16 = 0; k16 < kProducts; ++k16) {
        const uint2 pairs = codes[i].operand(k16, k128);
        operands[k16][i] = pairs.x;
        operands[k16][i + 2] = pairs.y;
      }
    }
  }

  __device__ static void multiplyTiles(const Work& work, const Shared& shared, int warp) {
    const int steps = work.problem.steps(), lane = static_cast<int>(threadIdx.x) % 32;
    const int xBytes = work.plan.boxRows * 128, wBytes = work.plan.tileEights * kUnitBytes;
    Barriers& barriers = *computedAnew(shared.barriers);
    const std::uint32_t k128 = twice128();
    Turn stage;
    forTiles(work, [&](const TilePlace& tile) {
      float sums[kRows / 8][4];
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[j][i] = 0;
      }
      int before = 0;
      // Of the stage before, when no more than the group that was just begun is left.
      const auto release = [&] {
        waitForProducts<1>();
        if (lane == 0) arrive(barriers.used[before]);
      };
      const std::byte *x = nullptr, *w = nullptr;
      const auto enter = [&] {
        waitFor(barriers.loaded[stage.place], stage.parity);
        x = shared.stages + stage.place * work.plan.stageBytes;
        w = x + kDepth * xBytes;
      };
      const auto leave = [&] {
        before = stage.place;
        stage.advance(work.plan.stages);
      };
      if constexpr (kCodes) {
        int units[kEights];
#pragma unroll
        for (int i = 0; i < kEights; ++i) {
          const int unit = kEights * warp + i;
          // A warp without outputs computes those of another.
          units[i] = (unit < tile.eights ? unit : tile.eights - 1) * kUnitBytes;
        }
        const auto read = [&](const std::byte* step, Codes& codes) {
#pragma unroll
          for (int i = 0; i < kEights; ++i) codes[i].read(step + units[i], lane);
        };
        const auto multiplyStep = [&](const Operands& operands) {
          beginProducts();
#pragma unroll
          for (int k16 = 0; k16 < kProducts; ++k16) multiply(sums, operands[k16], operandAt(x, k16));
          endProductGroup();
        };
        // Two steps at a time: codes of one are expanded while the products of the other are computed.
        Operands even = {}, odd = {};
        for (int step = 0; step < steps; step += 2) {
          Codes codes;
          if (step % kDepth == 0) enter();
          read(w, codes);
          expand(codes, k128, even);
          if constexpr (kDepth > 1) read(w + wBytes, codes);
          multiplyStep(even);
          if (step % kDepth == 0 && step > 0) {
            release();
          } else {
            waitForProducts<1>();
          }
          if constexpr (kDepth == 1) {
            leave();
            enter();
            read(w, codes);
          } else {
            x += xBytes;
          }
          expand(codes, k128, odd);
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
          // Steps are even, and so is the depth where it is not one.
#pragma unroll
          for (int i = 0; i < kDepth; ++i) {
            beginProducts();
#pragma unroll
            for (int k16 = 0; k16 < kProducts; ++k16) {
              multiply(sums, operandAt(w + i * wBytes, k16), operandAt(x + i * xBytes, k16));
            }
            endProductGroup();
            if (i > 0)
              waitForProducts<1>();
            else if (step > 0)
              release();
          }
          leave();
        }
      }
      waitForProducts<0>();
      if (lane == 0) arrive(barriers.used[before]);
      store(work.problem, tile, warp, sums);
    });
  }

  // With g = lane / 4 and t = lane % 4 a lane holds of eight i of its warp the output g, in the columns 2t
  // and the next of each eight rows of x: sums[j][2i] and the next.
  __device__ static void store(const MatmulProblem& problem, const TilePlace& tile, int warp,
                               const float (&sums)[kRows / 8][4]) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4, first = tile.firstEight + kEights * warp;
    const int eights = min(kEights, tile.eights - kEights * warp), width = problem.width();
    if (eights <= 0) return;
    const auto biasOf = [&](int output) {
      return problem.bias && output < problem.w.outputs ? problem.bias[output] : 0.0f;
    };
    if (problem.epilogue == Epilogue::swiGlu) {
      if constexpr (kEights == 2) {
        const int column = first / 2 * kOutputsOfUnit + g;
        const float gate = biasOf(column), up = biasOf(width + column);
        storeColumns<1>(problem, tile, first / 2, 1, sums, [&](int, const float(&of)[4], int k) {
          return silu(of[k] + gate) * (of[2 + k] + up);
        });
      }
      return;
    }
    float bias[kEights];
#pragma unroll
    for (int i = 0; i < kEights; ++i) bias[i] = biasOf((first + i) * kOutputsOfUnit + g);
    storeColumns<kEights>(problem, tile, first, eights, sums,
                          [&](int i, const float(&of)[4], int k) { return of[2 * i + k] + bias[i]; });
  }

  // Columns [8 first, 8 (first + count)) of the tile's rows of y. Rows are computed anew, or the addresses of
  // all of them would be computed at once. valueOf(i, sums[j], k): of the lane's column of eight i, in row
  // 8j + 2t + k of the tile.
  template <int kCount, class ValueOf>
  __device__ static void storeColumns(const MatmulProblem& problem, const TilePlace& tile, int first,
                                      int count, const float (&sums)[kRows / 8][4], const ValueOf& valueOf) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4, width = problem.width();
    if (problem.epilogue == Epilogue::logits || width % kOutputsOfUnit != 0) {
      // Eight eights of rows at a time, in a loop: as one long text for all sums this was most of what nvcc
      // had to do, and of the code.
      constexpr int kAtOnce = kRows / 8 < 8 ? kRows / 8 : 8, kTurns = (kRows / 8 + kAtOnce - 1) / kAtOnce;
#pragma unroll 1
      for (int turn = 0; turn < kTurns; ++turn) {
        bool is[kTurns];  // or the compiler would have the sums in memory, to choose among them by address
#pragma unroll
        for (int i = 0; i < kTurns; ++i) is[i] = computedAnew(turn) == i;
#pragma unroll
        for (int at = 0; at < kAtOnce; ++at) {
          float of[4] = {};
#pragma unroll
          for (int j = at; j < kRows / 8; j += kAtOnce) {
#pragma unroll
            for (int i = 0; i < 4; ++i) of[i] = is[j / kAtOnce] ? sums[j][i] : of[i];
          }
#pragma unroll
          for (int i = 0; i < kCount; ++i) {
            const int column = (first + i) * kOutputsOfUnit + g;
            if (i >= count || column >= width) continue;
#pragma unroll
            for (int k = 0; k < 2; ++k) {
              const std::int64_t row = tile.firstRow + computedAnew(8 * at + k) + 8 * kAtOnce * turn + 2 * t;
              if (row < tile.endRow) storeValue(problem, row * width + column, valueOf(i, of, k));
            }
          }
        }
      }
      return;
    }
    // Four blocks of 8 x 8 at a time, of some rows and kCount eights: transposed, and exchanged among four
    // lanes, a lane has 16 bytes of a row.
    constexpr int kRowsOf = 4 / kCount;
    const bool adds = problem.epilogue == Epilogue::add;
#pragma unroll
    for (int begin = 0; begin < kRows / 8; begin += kRowsOf) {
      const int ofRow = t / kCount, ofColumn = t % kCount;
      const std::int64_t row = tile.firstRow + computedAnew(8 * begin) + 8 * ofRow + g;
      const bool there = begin + ofRow < kRows / 8 && row < tile.endRow && ofColumn < count;
      auto* y = reinterpret_cast<uint4*>(static_cast<bf16*>(problem.y) + row * width +
                                         (first + ofColumn) * kOutputsOfUnit);
      std::uint32_t words[4] = {};
      if (adds) {
        const uint4 before = there ? *y : make_uint4(0, 0, 0, 0);
        words[0] = before.x, words[1] = before.y, words[2] = before.z, words[3] = before.w;
        transposeQuad(words, t);
      }
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        const int j = begin + block / kCount, i = block % kCount;
        if (j >= kRows / 8) continue;
        float low = valueOf(i, sums[j], 0), high = valueOf(i, sums[j], 1);
        if (adds) {
          const std::uint32_t before = transposeMatrix(words[block]);
          low += lowFloat(before);
          high += highFloat(before);
        }
        words[block] = transposeMatrix(packBf16(low, high));
      }
      transposeQuad(words, t);
      if (there) *y = make_uint4(words[0], words[1], words[2], words[3]);
    }
  }

  __device__ static void storeValue(const MatmulProblem& problem, std::int64_t at, float value) {
    if (problem.epilogue == Epilogue::logits) {
      static_cast<float*>(problem.y)[at] = value;
      return;
    }
    bf16& y = static_cast<bf16*>(problem.y)[at];
    y = roundToBf16(problem.epilogue == Epilogue::add ? value + lowFloat(y) : value);
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
    if constexpr (K::kExchange) takeRegisters<K::kTaken>();
    waitForKernelsBefore();
    K::multiplyTiles(work, shared, warp);
    return;
  }
  if constexpr (K::kExchange) giveRegisters<K::kLeft>();
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
  if (launchIf<2, 2, kRows, kClass>(work, stream)) return true;
  if constexpr (kClass == WeightClass::bf16) {
    return launchIf<1, 2, kRows, kClass>(work, stream);
  } else {
    if (launchIf<1, 1, kRows, kClass>(work, stream)) return true;
    if (launchIf<2, 1, kRows, kClass>(work, stream)) return true;
    if constexpr (kRows >= 32) return launchIf<4, 2, kRows, kClass>(work, stream);
    return false;
  }
}

template <WeightClass kClass, std::size_t... kAt>
bool launchMany(const Work& work, Stream stream, std::index_sequence<kAt...>) {
  return (launchIf<2, 2, kManyRows[kAt + 1], kClass>(work, stream) || ...);
}

template <WeightClass kClass>
void launchClass(const Work& work, Stream stream) {
  static_assert(kManyRows[0] == kFewRows);  // the first is among the few
  const bool launched = launchFew<kClass, 8>(work, stream) || launchFew<kClass, 16>(work, stream) ||
                        launchFew<kClass, 32>(work, stream) || launchFew<kClass, 64>(work, stream) ||
                        launchMany<kClass>(work, stream, std::make_index_sequence<kManyRows.size() - 1>());
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
