#pragma once

// Attention to int8 pages in products of whole numbers, as int8-attention-avx512.h has it, in vectors of 256
// bits. AVX2 and AVX-VNNI differ in how they add a product to a sum, and in no bit.

#include <cstdint>
#include <span>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

void attendInt8Avx2(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);
void attendInt8AvxVnni(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);

// What a tile's values are weighted by, and what becomes of their sums so far:
// out = out * factor + unit * sum of numbers * codes.
struct WholeWeights {
  alignas(32) std::int16_t numbers[kTileQueries * kPageTokens];
  float factors[kTileQueries], units[kTileQueries];
};

// From scores in whole numbers, [queries][kPageTokens] products of the tile's numbers and a page's codes, to
// probabilities in whole numbers. Updates the tile's maxima and sums; makes no weights where it has no out.
void softmaxInt8Avx2(const QueryTile& tile, const PageCodes& page, const std::int32_t* scores,
                     WholeWeights& weights);

}  // namespace tandem::cpu
