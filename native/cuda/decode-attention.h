#pragma once

#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "cuda/page-tables.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Attention of one token a sequence over its pages. All on the device but `mostTokens`.
struct DecodeAttention {
  const bf16* qkv = nullptr;  // [rows, (heads + 2 * kvHeads) * headDim], q as `appendKv` left it
  PageTables tables;
  const std::int32_t* rows = nullptr;      // [sequences]: the row of qkv and out of each sequence
  const std::int32_t* contexts = nullptr;  // [sequences]: tokens in the pages, the sequence's newest included
  int sequences = 0;
  int mostTokens = 0;      // the longest context
  int heads = 0;           // a multiple of kvHeads, 16 times at most
  int window = 0;          // latest tokens that are seen; 0: all
  float* parts = nullptr;  // decodeAttentionScratch(...) bytes
  bf16* out = nullptr;     // [rows, heads * headDim]
  // Where each run of a sequence has queries of its own, and may have places without a page at its end:
  // [sequences, runs of mostTokens, heads, headDim]; else null.
  const bf16* runQueries = nullptr;
};

std::size_t decodeAttentionScratch(int sequences, int mostTokens, int heads, int headDim);

void decodeAttention(const DecodeAttention& problem, Stream stream);

}  // namespace tandem::cuda
