#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/page-tables.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Rows [row, row + count) of the activations: the tokens of one sequence at [position, position + count).
struct QueryTile {
  std::int32_t row;
  std::int32_t count;
  std::int32_t sequence;  // of the step
  std::int32_t position;
};

// Tokens of a tile at most. Tiles that are full, but for a sequence's last, make the least work.
int prefillTileTokens(int heads, int kvHeads);

// Attention of many tokens of a sequence over its pages, their own included: causal, within the window. What
// a row becomes is what `decodeAttention` makes of it, bit for bit. All on the device.
struct PrefillAttention {
  const bf16* qkv = nullptr;  // [rows, (heads + 2 * kvHeads) * headDim], q as `appendKv` left it
  PageTables tables;
  const QueryTile* tiles = nullptr;
  int tileCount = 0;
  int heads = 0;        // a multiple of kvHeads, 16 times at most
  int window = 0;       // latest tokens that a token sees, itself included; 0: all
  bf16* out = nullptr;  // [rows, heads * headDim]
};

void prefillAttention(const PrefillAttention& problem, Stream stream);

}  // namespace tandem::cuda
