#pragma once

#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "cuda/page-tables.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Rows [row, row + count) of the activations: tokens of one sequence at [position, position + count).
struct ProbeTile {
  std::int32_t row;
  std::int32_t count;
  std::int32_t sequence;  // of the tables
  std::int32_t position;
  std::int32_t sums;  // where the sums of the sequence's pages begin
};

// Tokens of a tile at most. Tiles that are full make the least work.
int probeTileTokens(int heads, int kvHeads);

// See Ops::probe in core/ops.h: where rows look, page by page. What a row adds does not depend on the other
// rows of its tile. All on the device but `mostTokens` and `mostRows`.
struct Probe {
  const bf16* qkv = nullptr;  // [rows, (heads + 2 * kvHeads) * headDim], q as `appendKv` left it
  PageTables tables;
  const ProbeTile* tiles = nullptr;
  int tileCount = 0;
  int mostRows = 0;               // of a tile
  int mostTokens = 0;             // the longest context of a tile's last row
  int heads = 0;                  // a multiple of kvHeads, 16 times at most
  int window = 0;                 // latest tokens that a token sees, itself included; 0: all
  float* parts = nullptr;         // probeScratch(...) bytes
  std::uint32_t* sums = nullptr;  // in units of 1 / kSaliencyUnits, to be added to
};

std::size_t probeScratch(int tiles, int mostRows, int mostTokens, int heads, int kvHeads);

void probe(const Probe& problem, Stream stream);

}  // namespace tandem::cuda
