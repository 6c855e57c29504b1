#pragma once

// What one thread computes of attention: a block of queries against its pages. Arithmetic is in kernels.h.

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/aligned-array.h"
#include "cpu/attention/best-pages.h"
#include "cpu/attention/block.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/page-turns.h"
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

  // The whole block over the pages that its rows see of a sequence with absent pages, into the output.
  void attendPartitions(const AttentionKernels& kernels, const AttentionProblem& problem,
                        const AttentionBlock& block, const PagePartitions& partitions, const PageTurns& turns,
                        const Turn& sinkTurn);

  static void writeOut(const AttentionProblem& problem, const AttentionBlock& block,
                       const SoftmaxState& state);

 private:
  // Turned, unless null.
  void loadQueries(const AttentionKernels& kernels, const AttentionProblem& problem,
                   const AttentionBlock& block, const Turn* turn = nullptr);
  // The rows of a block over the mid pages that each of them sees, of their own states.
  void attendSelected(const AttentionKernels& kernels, const AttentionProblem& problem,
                      const AttentionBlock& block, const PagePartitions& partitions, const PageTurns& turns,
                      const SoftmaxState& states);
  // What a key of each older mid page may score with a row's turned query, by its scales; the highest of the
  // heads. bounds_ [rows, older pages]; empty where all of them are looked at key by key
  void boundPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                  const AttentionBlock& block, const PagePartitions& partitions, const PageTurns& turns);
  // The block's queries as whole numbers, not turned yet, where the kernels take them.
  void quantizeUnturned(const AttentionKernels& kernels, const AttentionProblem& problem,
                        const AttentionBlock& block);
  // Those of a block of one KV head, which are turned as they are read.
  TurnedQueries turnedQueries(const AttentionProblem& problem, const AttentionBlock& block,
                              const Turn& turn) const;
  // What the best key of each newer one does score. scores_ [rows, newer pages]
  void scorePages(const AttentionKernels& kernels, const AttentionProblem& problem,
                  const AttentionBlock& block, const PagePartitions& partitions, const PageTurns& turns);
  // The mid pages that a row of the block sees, ascending, by its bounds and scores.
  void selectPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                   const AttentionBlock& block, int row, const PagePartitions& partitions,
                   const PageTurns& turns);
  // What a page's best key scores with each row. scores [rows], scoreStride apart. Queries that were loaded
  // are no longer.
  void scorePage(const AttentionKernels& kernels, const AttentionProblem& problem,
                 const AttentionBlock& block, std::int64_t page, const Turn& turn, float* scores,
                 std::int64_t scoreStride);
  // The pages of a span, of the queries that were loaded.
  void attendLoaded(const AttentionKernels& kernels, const AttentionProblem& problem,
                    const AttentionBlock& block, std::int64_t span, const SoftmaxState& state);
  // The block's queries that were loaded, tile by tile, adding to a state.
  void setTiles(const AttentionProblem& problem, const AttentionBlock& block, const SoftmaxState& state);
  // The tiles that were set meet `count` neighbouring pages, none given up: more than one where their
  // elements' class is the same and is attended to by its codes, and the block is no more than a tile of each
  // KV head. `next`: those that follow, to be fetched ahead; -1: none.
  void attendPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                   const AttentionBlock& block, std::int64_t page, int count, std::int64_t next);
  // The pages of attendPages by their codes, and its only page by its elements: those of one KV head.
  void attendCodes(AttendCodes attend, const AttentionBlock& block, int head, std::span<PageCodes> codes,
                   bool isSeenWhole, Prefetch* ahead);
  void attendElements(const AttentionKernels& kernels, const AttentionBlock& block, int head,
                      const PageFormat& format, const PageCodes& codes, bool isSeenWhole, Prefetch& next);
  // What each row sees of the pages. Whether all rows see all of them.
  bool setVisible(const AttentionProblem& problem, const AttentionBlock& block, std::int64_t page, int count);
  // Whether none of a tile's queries sees any of the pages.
  bool isHidden(int pages, int query, int queries) const;
  // The page's keys and values as bf16, the latter if they are wanted: where they lie, or written down.
  PageTile elementsOf(const AttentionKernels& kernels, const PageCodes& codes, const PageFormat& format,
                      bool withValues, Prefetch& next);
  void setScales(const AttentionKernels& kernels, const PageCodes& codes, const PageFormat& format,
                 const AttentionBlock& block, int head, PageTile& tile);

  AlignedArray<bf16> folded_;     // the queries with a packed page's key steps in them
  float offsets_[kBlockQueries];  // and what its key middles add to their scores
  float valueScales_[2 * kPageTokens];
  AlignedArray<bf16> q_, keys_, values_;
  AlignedArray<std::int16_t> numbers_;   // the queries as whole numbers, where the kernels take them
  AlignedArray<std::int16_t> unpacked_;  // a page's codes, where several tiles meet them
  float units_[kBlockQueries];
  AlignedArray<std::int16_t> unturned_;  // as numbers_, from unturnedRow_ on
  float unturnedUnits_[kBlockQueries];
  std::int64_t unturnedRow_ = 0;
  float scale_ = 0;  // of the queries that were loaded
  QueryTile tiles_[kBlockQueries];
  // By the queries of one KV head, of the pages at hand: heads see alike.
  std::uint32_t visible_[kMostTogether][kBlockQueries];
  AlignedArray<float> total_, part_;
  std::vector<float> bounds_, scores_;
  std::vector<std::int64_t> selected_;  // pages
  std::vector<float> promises_;         // of these
  BestPages best_;
};

}  // namespace tandem::cpu
