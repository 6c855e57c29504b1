#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/page-tables.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Rows of one sequence that fall into one page: rows [row, row + count) are its tokens [token, token +
// count). The rows that start a page must come in one piece with what follows them in the step.
struct KvPiece {
  std::int32_t row;
  std::int32_t count;
  std::int32_t sequence;
  std::int32_t page;   // in the sequence's table
  std::int32_t token;  // in the page
};

// See Ops::appendKv in core/ops.h. A page is cleared when its first token comes, so that the part behind the
// last token holds finite values, which attention relies on. All on the device.
struct AppendKv {
  bf16* qkv = nullptr;            // [rows, (heads + 2 * kvHeads) * headDim]
  const float* angles = nullptr;  // as `ropeAngles` left them
  const KvPiece* pieces = nullptr;
  int pieceCount = 0;
  int longestPiece = 0;  // rows
  PageTables tables;
  int heads = 0;
  const float* qGain = nullptr;  // [headDim], or null: no norm
  const float* kGain = nullptr;
  float eps = 0;
};

void appendKv(const AppendKv& problem, Stream stream);

}  // namespace tandem::cuda
