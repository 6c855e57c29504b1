// One block for each tile and KV head: its rows are the query heads of the group of each token. A warpgroup
// brings pages from global memory and lays them out for wgmma, as bf16 whatever their class; two more attend
// with 64 rows each, so that one's softmax is beside the other's products, and beside its own of the step
// before. Sums are those of attention-order.h; what is left of the runs before waits in shared memory.
//
// FLOP: 4 * headDim a pair of tokens and head. Bytes: a block reads every page that one of its rows sees,
// mostly from L2: 32 KB of bf16 a step of 4.2 MFLOP, for 128 channels.

#include <cmath>

#include "cuda/prefill-kernels.h"
#include "cuda/prefill-wgmma-attender.h"
#include "cuda/prefill-wgmma-block.h"
#include "cuda/prefill-wgmma-bringer.h"

namespace tandem::cuda {
namespace {

using namespace wgmma_prefill;

// Of the 65536 registers of an SM. Those that bring pages of bf16 hold twice as many words of the next ones.
template <PrecisionClass kPool>
constexpr int kAttendingRegisters = kPool == PrecisionClass::bf16 ? 184 : 200;
template <PrecisionClass kPool>
constexpr int kBringingRegisters = kPool == PrecisionClass::bf16 ? 136 : 104;

template <int kHeadDim, PrecisionClass kPool>
__global__ void __launch_bounds__(kThreads, 1) attendTile(const PrefillAttention problem, float scale) {
#if defined(TANDEM_WGMMA)
  const Block<kHeadDim> block(problem);
  if (threadIdx.x == 0) {
    auto& barriers = block.memory.barriers();
    for (int stage = 0; stage < kStages; ++stage) {
      initialise(barriers.brought[stage], kBringing);
      initialise(barriers.used[stage], kAttending / 32);
    }
    publishBarriers();
  }
  if (threadIdx.x < kAttending) {
    Attender<kHeadDim> attender(block, scale);
    __syncthreads();
    takeRegisters<kAttendingRegisters<kPool>>();
    attender.run();
  } else {
    __syncthreads();
    giveRegisters<kBringingRegisters<kPool>>();
    Bringer<kHeadDim, kPool>(block, scale).run();
  }
#endif
}

template <int kHeadDim>
void attend(const PrefillAttention& problem, Stream stream) {
  const dim3 grid(static_cast<unsigned>(problem.tileCount),
                  static_cast<unsigned>(problem.tables.format.kvHeads));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  const auto kernel = problem.tables.format.precision == PrecisionClass::bf16
                          ? attendTile<kHeadDim, PrecisionClass::bf16>
                          : attendTile<kHeadDim, PrecisionClass::int8>;
  launchShared("prefillAttention", kernel, grid, kThreads, Layout<kHeadDim>::kBytes, stream, problem, scale);
}

}  // namespace

void prefillByWgmma(const PrefillAttention& problem, Stream stream) {
  withHeadDim(problem.tables.format.headDim, "prefillAttention",
              [&](auto headDim) { attend<headDim>(problem, stream); });
}

}  // namespace tandem::cuda
