#pragma once

// Sums of whole numbers over a block, and the end of a grid whose blocks contribute to one row. Whole numbers
// have the same sum in any order, so that no order needs keeping.

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {

__device__ inline void addTo(std::uint64_t* sum, std::uint64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
}

struct BlockSums {
  std::uint64_t before;  // of the threads before this one
  std::uint64_t all;
};

// Every thread of the block calls it.
template <int kThreads>
__device__ BlockSums blockSums(std::uint64_t value) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::uint64_t inclusive = value;
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const std::uint64_t lower = __shfl_up_sync(kWholeWarp, inclusive, lanes);
    if (lane >= lanes) inclusive += lower;
  }
  __shared__ std::uint64_t warps[kThreads / 32];
  __syncthreads();  // an earlier call's are read
  if (lane == 31) warps[warp] = inclusive;
  __syncthreads();
  BlockSums sums{inclusive - value, 0};
  for (int other = 0; other < kThreads / 32; ++other) {
    if (other < warp) sums.before += warps[other];
    sums.all += warps[other];
  }
  return sums;
}

// True in all threads of the block that comes last of those that share `arrived`, which sees what they wrote.
// `arrived` begins at 0 and is 0 again afterwards.
__device__ inline bool comesLast(std::uint32_t* arrived, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(arrived, 1u) == blocks - 1;
    if (last) *arrived = 0;
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

}  // namespace tandem::cuda
