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

// What one thread computes against one list of pages: rows of one entry, and heads that share one KV head, or
// all heads. With all of them pages are read from end to end, which memory serves a fifth to a third faster
// than one head's part of each. Queries are in the order [kvHeads][rows][heads].
struct AttentionBlock {
  int entry;
  int kvHead;  // the first
  int kvHeads;
  int firstHead;
  int heads;              // of each KV head
  std::int64_t firstRow;  // in the entry
  int rows;
  std::int64_t firstPage;
  std::int64_t endPage;

  int queriesOfKvHead() const { return rows * heads; }
  int queries() const { return kvHeads * queriesOfKvHead(); }
  std::int64_t rowOf(int query) const { return firstRow + query / heads % rows; }
  int headOf(int query) const { return firstHead + query / queriesOfKvHead() * heads + query % heads; }
  std::int64_t firstSpan() const { return firstPage / kSpanPages; }
  std::int64_t spans() const { return (endPage - 1) / kSpanPages - firstSpan() + 1; }
  AttentionBlock onlyRows(int first, int count) const {
    AttentionBlock only = *this;
    only.firstRow = firstRow + first;
    only.rows = count;
    return only;
  }
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

// The blocks of one entry: each has one KV head or, of an entry of few rows, if `wholePages`, all of them.
void appendBlocks(const AttentionProblem& problem, int entryIndex, bool wholePages,
                  std::vector<AttentionBlock>& blocks);

}  // namespace tandem::cpu
