#pragma once

// The running softmax of a block of queries: what an online softmax keeps, and how the parts of two spans are
// merged.

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

// A view into memory owned elsewhere.
struct SoftmaxState {
  float* maximum;  // [queries]
  float* sum;      // [queries, kSumLanes]
  float* out;      // [queries, headDim]; null where only the others are wanted

  static constexpr std::size_t elements(int queries, int headDim) {
    // Rounded to a cache line, so that states side by side stay aligned.
    return (static_cast<std::size_t>(queries) * (1 + kSumLanes + headDim) + 15) / 16 * 16;
  }

  // `memory` holds elements(queries, headDim) floats. The sums and out come first: they are read as vectors.
  static SoftmaxState in(float* memory, int queries, int headDim) {
    float* sum = memory;
    float* out = sum + static_cast<std::size_t>(queries) * kSumLanes;
    return {out + static_cast<std::size_t>(queries) * headDim, sum, out};
  }

  void clear(int queries, int headDim) const {
    std::fill_n(maximum, queries, kNothingSeen);
    std::fill_n(sum, static_cast<std::size_t>(queries) * kSumLanes, 0.0f);
    std::fill_n(out, static_cast<std::size_t>(queries) * headDim, 0.0f);
  }

  // Adds a later span's state to this one.
  void merge(const SoftmaxState& later, int queries, int headDim) const {
    for (int query = 0; query < queries; ++query) {
      const float highest = std::max(maximum[query], later.maximum[query]);
      const float mine = std::exp2(maximum[query] - highest),
                  theirs = std::exp2(later.maximum[query] - highest);
      maximum[query] = highest;
      blend(sum + query * kSumLanes, later.sum + query * kSumLanes, kSumLanes, mine, theirs);
      const std::size_t row = static_cast<std::size_t>(query) * headDim;
      blend(out + row, later.out + row, headDim, mine, theirs);
    }
  }

  // result [headDim] = out / sum of one query
  void finish(int query, int headDim, float* result) const {
    float lanes[kSumLanes];
    std::copy_n(sum + query * kSumLanes, kSumLanes, lanes);
    for (int width = kSumLanes / 2; width > 0; width /= 2) {
      for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    const float inverse = 1 / lanes[0];
    const float* row = out + static_cast<std::size_t>(query) * headDim;
    for (int channel = 0; channel < headDim; ++channel) result[channel] = row[channel] * inverse;
  }

 private:
  static void blend(float* mine, const float* theirs, int count, float myFactor, float theirFactor) {
    for (int i = 0; i < count; ++i) mine[i] = mine[i] * myFactor + theirs[i] * theirFactor;
  }
};

}  // namespace tandem::cpu
