#pragma once

// Attention to int4 and int2 pages in products of bytes (`vpdpbusd`), which are twice as many a clock as
// those of int16. A page's codes are made for its own range, so they bring far more noise than what queries
// and probabilities lose here: their largest byte is that of the page's largest product of query and step,
// and of the pages' largest product of probability and step. Sums are exact, so how queries, channels and
// tokens are grouped changes no bit.

#include <span>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

void attendInt4Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);
void attendInt2Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);

// With instructions of BF16.
void attendInt4Avx512Bf16(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);
void attendInt2Avx512Bf16(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);

}  // namespace tandem::cpu
