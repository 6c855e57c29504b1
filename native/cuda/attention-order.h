#pragma once

// The order of attention's sums, which decode and prefill share, so that a token's bits are the same whether
// it came alone or in a prompt, whatever was computed beside it:
//
// - A context is cut at multiples of kRunTokens. A run is an online softmax of its own, from the first page
// to
//   the last, in steps of kStepTokens, and runs are merged one after another.
// - A step's scores are chains of m16n8k16 over the channels, its part of the output chains over the tokens,
//   in slots of 16 that the files below name.
// - A score is a product of channels times log2(e) / sqrt(headDim), in int8 times the key's scale as well;
// its
//   probability is 2^(that - base), one rounding before the power. A run's base is the highest score of its
//   first step, and follows higher ones where they leave it far behind (raisedBase).
// - Probabilities are added up in 32 classes of two tokens a step: those of a page that are 4 c + 2 m and
//   4 c + 2 m + 1. A run's classes are added as a tree: over c, then over m and the pages of a step.
//
// Tokens that a query does not see have the probability zero, and leave every sum as it is.

#include <string>
#include <type_traits>

#include "core/error.h"
#include "cuda/kernel.h"

namespace tandem::cuda {

inline constexpr int kStepTokens = 64;
inline constexpr int kRunTokens = 256;

// Of a step: two tiles of scores of each page.
inline constexpr int kQuarters = 4;

// A tree over the quarters.
__device__ inline float overQuarters(float a, float b, float c, float d) { return (a + b) + (c + d); }

// Base of a query that has seen nothing: finite, so that the first real one gives the factor 0 and not NaN.
inline constexpr float kNothingSeen = -1e30f;

inline constexpr float kLog2E = 1.4426950408889634f;

// Query heads of a KV head at most.
inline constexpr int kGroupMost = 16;

// Calls body(an integral constant), of the head dimensions that there are kernels for.
template <class Body>
void withHeadDim(int headDim, const char* op, const Body& body) {
  switch (headDim) {
    case 32:
      return body(std::integral_constant<int, 32>());
    case 64:
      return body(std::integral_constant<int, 64>());
    case 96:
      return body(std::integral_constant<int, 96>());
    case 128:
      return body(std::integral_constant<int, 128>());
    default:
      throw Error(std::string(op) + " supports head dimensions of 32, 64, 96 and 128, not " +
                  std::to_string(headDim));
  }
}

// 2^(product * scale - base).
__device__ inline float probability(float product, float scale, float base) {
  return exp2Fast(__fmaf_rn(product, scale, -base));
}

// A base only keeps powers of two in range, and every rise has all sums of before rescaled. Up to 2^8 loses
// nothing, in float32 as in bf16, and is hardly ever left once a step has been seen.
inline constexpr float kAboveBase = 8;

// After a step with this highest score.
__device__ inline float raisedBase(float base, float highest) {
  return highest > base + kAboveBase ? highest : base;
}

// What an online softmax knows of a query besides its output: the base of its probabilities, in powers of
// two, and their sum.
struct SoftmaxSums {
  float base = kNothingSeen;
  float sum = 0;
};

// Multiplications that an addition follows are named, so that no compiler makes one rounding of them here and
// two there.
struct MergeFactors {
  float before, later;

  // Of what was found before and in a later run, with the higher base of both.
  __device__ static MergeFactors of(float before, float run, float base) {
    return {exp2Fast(before - base), exp2Fast(run - base)};
  }
  // Adds a later run to `total`; `combine` does the same to an element of the output.
  __device__ static MergeFactors merge(SoftmaxSums& total, const SoftmaxSums& run) {
    const float base = fmaxf(total.base, run.base);
    const MergeFactors factors = of(total.base, run.base, base);
    total.base = base;
    total.sum = factors.combine(total.sum, run.sum);
    return factors;
  }
  __device__ float combine(float total, float run) const {
    return __fmaf_rn(before, total, __fmul_rn(later, run));
  }
};

}  // namespace tandem::cuda
