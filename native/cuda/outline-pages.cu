// A block copies page after page, 16 bytes a thread, so that host memory is written in whole lines.
//
// Bytes: a page read, the same over the bus, and 4 * headDim a KV head for its outline. The bus takes some 25
// to 60 GB/s. With four chunks a thread on their way, 16 KB, a block reads as many in a microsecond, so a few
// fill it, and the other SMs are left to the steps that go on beside.

#include "cuda/outline-pages.h"

#include <algorithm>

#include "cuda/global-memory.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostBlocks = 16;
constexpr int kTogether = 4;  // chunks of a thread on their way

// Reads that wait for nothing but each other: written out, since the compiler does not know that no page lies
// where another is written, and would have each read wait for the write before it.
__device__ void copyTo(uint4* target, const uint4* source, int chunks) {
  const int thread = computedAnew(static_cast<int>(threadIdx.x));  // read once
#pragma unroll 1
  for (int first = thread; first < chunks; first += kTogether * kThreads) {
    uint4 words[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i * kThreads < chunks) words[i] = source[first + i * kThreads];
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i * kThreads < chunks) target[first + i * kThreads] = words[i];
    }
  }
}

__global__ void __launch_bounds__(kThreads) outlineInTurn(const OutlinePages problem) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  for (int i = static_cast<int>(blockIdx.x); i < problem.count; i += static_cast<int>(gridDim.x)) {
    const PageConversion conversion = problem.conversions[i];
    const PageFormat from = conversion.fromFormat.in(PrecisionClass::int4), to = from.in(PrecisionClass::far);
    const std::byte* page = inGlobalMemory(conversion.from);
    std::byte *outline = inGlobalMemory(conversion.to), *detail = inGlobalMemory(conversion.detail);
    copyTo(reinterpret_cast<uint4*>(detail), reinterpret_cast<const uint4*>(page),
           static_cast<int>(from.pageBytes() / sizeof(uint4)));
    const int ofHead = static_cast<int>(from.keyScaleBytes() / sizeof(uint4));  // of its keys' scales
#pragma unroll 1
    for (int kvHead = warp; kvHead < from.kvHeads; kvHead += kThreads / 32) {
      const auto* scales = reinterpret_cast<const uint4*>(page + from.keyScales(kvHead));
      auto* kept = reinterpret_cast<uint4*>(outline + to.keyScales(kvHead));
#pragma unroll 1
      for (int chunk = lane; chunk < ofHead; chunk += 32) kept[chunk] = scales[chunk];
    }
    if (thread == 0) *reinterpret_cast<std::byte**>(outline + to.detailPlace()) = conversion.detail;
  }
}

}  // namespace

void outlinePages(const OutlinePages& problem, Stream stream) {
  if (problem.count == 0) return;
  const dim3 grid(static_cast<unsigned>(std::min(problem.count, kMostBlocks)));
  launch("outlinePages", outlineInTurn, grid, kThreads, stream, problem);
}

}  // namespace tandem::cuda
