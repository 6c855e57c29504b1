#pragma once

// What the two kernels of decodeAttention share: which runs of its context a sequence sees, and what the
// first leaves of each for the second (decode-merge.cu).

#include <cstdint>

#include "cuda/attention-order.h"
#include "cuda/decode-attention.h"
#include "cuda/kernel.h"

namespace tandem::cuda::decode {

// What a run leaves of a head: out, not yet divided by its sum, then its sums.
constexpr std::int64_t partFloats(int headDim) { return headDim + 4; }

inline int runsOf(int mostTokens) { return (mostTokens + kRunTokens - 1) / kRunTokens; }

struct Seen {
  int begin, end;  // tokens
  __device__ int firstRun() const { return begin / kRunTokens; }
  __device__ int runs() const { return (end - 1) / kRunTokens - firstRun() + 1; }
};

__device__ inline Seen seenBy(const DecodeAttention& problem, int context) {
  return {problem.window > 0 && context > problem.window ? context - problem.window : 0, context};
}

}  // namespace tandem::cuda::decode
