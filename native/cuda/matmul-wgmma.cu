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
#include "cuda/matmul-wgmma-block.h"
#include "cuda/matmul-wgmma-loader.h"
#include "cuda/matmul-wgmma-multiplier.h"
#include "cuda/rows-map.h"
#include "cuda/wgmma.h"

namespace tandem::cuda {
namespace {

using namespace wgmma_matmul;

template <int kWarpgroups, int kEights, int kRows, WeightClass kClass>
__global__ void __launch_bounds__(Kernel<kWarpgroups, kEights, kRows, kClass>::kThreads,
                                  Kernel<kWarpgroups, kEights, kRows, kClass>::kBlocks)
    multiplyPipelined(const Work work, const __grid_constant__ RowsMap x) {
#if defined(TANDEM_WGMMA)
  using K = Kernel<kWarpgroups, kEights, kRows, kClass>;
  const Shared shared = divideShared(work.plan);
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
    multiplyTiles<K>(work, shared, warp);
    return;
  }
  if constexpr (K::kExchange) giveRegisters<K::kLeft>();
  if (other == 0) {
    // Weights are loaded meanwhile: nothing writes them.
    waitForKernelsBefore();
    loadX<K>(work, x, shared);
  } else {
    loadW<K>(work, shared, other - 1);
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
