#pragma once

// Attention to int4 and int2 pages in products of bytes, as packed-attention-avx512.h has it, in vectors of
// 256 bits. AVX2 and AVX-VNNI differ in how they add such a product to a sum, and in no bit.

#include <cstdint>
#include <span>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

void attendInt4Avx2(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);
void attendInt2Avx2(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);
void attendInt4AvxVnni(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);
void attendInt2AvxVnni(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);

// A tile's queries as bytes for the keys of a packed page, whose scales are per channel and so meet the
// queries: score = unit * (numbers . codes) + offset, in base 2.
struct ByteQueries {
  // [query][kMaxHeadDim], each eight channels in the order of orderOfEight.
  alignas(32) std::int8_t numbers[kTileQueries * kMaxHeadDim];
  float units[kTileQueries + 3], offsets[kTileQueries + 3];  // written by fours
};

// numbers . codes of a few pages.
struct ByteScores {
  alignas(32) std::int32_t of[kMostTogether][kTileQueries * kPageTokens];
};

// What the values of a few pages are weighted by, and what becomes of their sums so far:
// out = out * factor + offset + unit * (numbers . codes).
struct ByteWeights {
  // [query][kPageTokens], each 16 tokens in the order in which a page's codes are masked out of their words.
  alignas(32) std::uint8_t numbers[kMostTogether][kTileQueries * kPageTokens];
  float factors[kTileQueries + 3], offsets[kTileQueries + 3], units[kTileQueries + 3];
};

// By page.
template <int Bits>
void foldByteQueries(const QueryTile& tile, std::span<const PageCodes> pages, ByteQueries* queries,
                     Prefetch* next);

// The softmax of a few pages together. Updates the tile's maxima and sums; makes no weights where it has no
// out.
template <int Bits>
void softmaxBytes(const QueryTile& tile, std::span<const PageCodes> pages, const ByteQueries* queries,
                  const ByteScores& scores, ByteWeights& weights, Prefetch* next);

}  // namespace tandem::cpu
