#pragma once

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {

// Half of a reduction over lanes for half of the shuffles: lanes that differ in `bit` have the first 2 *
// kKept values each, and end with kKept, the best of both lanes' first ones, or, where the bit is set, of
// their second ones. `lane`: from a caller that keeps it in a register.
template <int kKept, int kCount, class T, class Best>
__device__ void divide(T (&values)[kCount], int bit, const Best& best,
                       int lane = static_cast<int>(threadIdx.x)) {
  static_assert(2 * kKept <= kCount);
  const bool second = (lane & bit) != 0;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const T kept = second ? values[kKept + i] : values[i], given = second ? values[i] : values[kKept + i];
    values[i] = best(kept, __shfl_xor_sync(kWholeWarp, given, bit));
  }
}

}  // namespace tandem::cuda
