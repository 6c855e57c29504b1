// A block copies page after page, 16 bytes a thread, so that host memory is written in whole lines.
//
// Bytes: a page read, the same over the bus, and 4 * headDim a KV head for its outline. The bus takes some 25
// to 60 GB/s. With four chunks a thread on their way, 16 KB, a block reads as many in a microsecond, so a few
// fill it, and the other SMs are left to the steps that go on beside.

#include "cuda/outline-pages.h"

#include <algorithm>

#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostBlocks = 16;

__global__ void __launch_bounds__(kThreads) outlineInTurn(const OutlinePages problem) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = static_cast<int>(blockIdx.x); i < problem.count; i += static_cast<int>(gridDim.x)) {
    const auto [page, outline, from, to, detail] = problem.conversions[i];
    const int chunks = static_cast<int>(from.pageBytes() / sizeof(uint4));
#pragma unroll 4
    for (int chunk = thread; chunk < chunks; chunk += kThreads) {
      reinterpret_cast<uint4*>(detail)[chunk] = reinterpret_cast<const uint4*>(page)[chunk];
    }
    const int ofHead = static_cast<int>(from.keyScaleBytes() / sizeof(uint4));
    for (int chunk = thread; chunk < from.kvHeads * ofHead; chunk += kThreads) {
      const int kvHead = chunk / ofHead, own = chunk % ofHead;
      reinterpret_cast<uint4*>(outline + to.keyScales(kvHead))[own] =
          reinterpret_cast<const uint4*>(page + from.keyScales(kvHead))[own];
    }
    if (thread == 0) *reinterpret_cast<std::byte**>(outline + to.detailPlace()) = detail;
  }
}

}  // namespace

void outlinePages(const OutlinePages& problem, Stream stream) {
  if (problem.count == 0) return;
  const dim3 grid(static_cast<unsigned>(std::min(problem.count, kMostBlocks)));
  launch("outlinePages", outlineInTurn, grid, kThreads, stream, problem);
}

}  // namespace tandem::cuda
