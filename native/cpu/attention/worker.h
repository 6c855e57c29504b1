#pragma once

// What one thread computes of attention: a block of queries against its pages. Arithmetic is in kernels.h.

#include <cstdint>

#include "cpu/aligned-array.h"
#include "cpu/attention/block.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/softmax-state.h"

namespace tandem::cpu {

// One thread's memory.
class AttentionWorker {
 public:
  void reserve(int headDim, int stride);

  // The whole block, span after span, into the output.
  void attendBlock(const AttentionKernels& kernels, const AttentionProblem& problem,
                   const AttentionBlock& block);

  // One span of the block, into a state of its own.
  void attendSpan(const AttentionKernels& kernels, const AttentionProblem& problem,
                  const AttentionBlock& block, std::int64_t span, const SoftmaxState& state);

  // The softmax of each page for itself, without values: maxima and sums [pages of the block, queries].
  void weighPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                  const AttentionBlock& block, float* maxima, float* sums);

  static void writeOut(const AttentionProblem& problem, const AttentionBlock& block,
                       const SoftmaxState& state);

 private:
  void loadQueries(const AttentionProblem& problem, const AttentionBlock& block);
  // The pages of a span, of the queries that were loaded.
  void attendLoaded(const AttentionKernels& kernels, const AttentionProblem& problem,
                    const AttentionBlock& block, std::int64_t span, const SoftmaxState& state);
  // One page, which is not given up. `end`: of the pages that follow, to be fetched ahead.
  void attendPage(const AttentionKernels& kernels, const AttentionProblem& problem,
                  const AttentionBlock& block, std::int64_t page, std::int64_t end,
                  const SoftmaxState& state);
  // The page's keys and values as bf16: where they lie, or written down.
  PageTile elementsOf(const AttentionKernels& kernels, const std::byte* page, const PageFormat& format,
                      int kvHead, Prefetch& next);
  void setScales(const AttentionKernels& kernels, const std::byte* page, const PageFormat& format,
                 const AttentionBlock& block, int stride, PageTile& tile);

  AlignedArray<bf16> folded_;     // the queries with a packed page's key steps in them
  float offsets_[kBlockQueries];  // and what its key middles add to their scores
  float valueScales_[2 * kPageTokens];
  AlignedArray<bf16> q_, keys_, values_;
  float scale_ = 0;  // of the queries that were loaded
  AlignedArray<float> total_, part_;
};

}  // namespace tandem::cpu
