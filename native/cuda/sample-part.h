#pragma once

#include <cstdint>

#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/sample-kernels.h"

namespace tandem::cuda {

inline constexpr int kSampleThreads = 256;

// A block's part of a row, in its threads' registers: thread t has the tokens begin + t + i * kSampleThreads.
// All are loaded before the first is used, so that the memory is waited for once.
struct SamplePart {
  static constexpr int kHeld = kSamplePart / kSampleThreads;

  std::uint32_t orders[kHeld];  // 0: none, or taken
  int begin;

  __device__ SamplePart(const float* logits, int vocab) : begin(static_cast<int>(blockIdx.x) * kSamplePart) {
    float held[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) held[i] = tokenAt(i) < vocab ? logits[tokenAt(i)] : 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) orders[i] = tokenAt(i) < vocab ? orderOf(held[i]) : 0;
  }

  __device__ int tokenAt(int i) const { return begin + static_cast<int>(threadIdx.x) + i * kSampleThreads; }
};

}  // namespace tandem::cuda
