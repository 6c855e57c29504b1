#pragma once

// How attention is cut into blocks: which queries meet which pages.

#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cpu/attention/attention.h"
#include "cpu/attention/kernels.h"

namespace tandem::cpu {

inline constexpr int kSpanPages = kSpanTokens / kPageTokens;

static_assert(kMaxHeadDim <= kNumbersStride);
static_assert(kSpanPages % kMostTogether == 0);

// Queries of a block at most. A page is loaded (and its codes expanded) once for all tiles of a block, so its
// bytes move from the outer caches once per this many queries; more would push the block's own sums out of
// L2.
inline constexpr int kBlockQueries = 4 * kTileQueries;

// Rows of one entry and heads of one KV head's group: what one thread computes against one list of pages.
// Query number i of a block is row i / heads, head i % heads.
struct AttentionBlock {
  int entry;
  int kvHead;
  int firstHead;
  int heads;
  std::int64_t firstRow;  // in the entry
  int rows;
  std::int64_t firstPage;
  std::int64_t endPage;

  int queries() const { return rows * heads; }
  std::int64_t firstSpan() const { return firstPage / kSpanPages; }
  std::int64_t spans() const { return (endPage - 1) / kSpanPages - firstSpan() + 1; }
  std::int64_t cost() const { return (endPage - firstPage) * queries(); }
};

struct AttentionProblem {
  Tensor qkv;
  std::span<const EntryRows> entries;
  std::span<const KvView> views;
  AttentionShape shape;
  Tensor out;

  int stride() const { return (shape.headDim + 31) / 32 * 32; }
  float scale() const {
    return static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(shape.headDim)));
  }
};

// Throws Error if a shape, a row or a page table does not fit.
void validate(const AttentionProblem& problem);

// The blocks of one entry.
void appendBlocks(const AttentionProblem& problem, int entryIndex, std::vector<AttentionBlock>& blocks);

}  // namespace tandem::cpu
