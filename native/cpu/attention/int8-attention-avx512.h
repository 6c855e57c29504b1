#pragma once

// Attention to int8 pages in products of whole numbers: int16 queries and probabilities times codes, summed
// in int32. The sums are exact, so how queries, channels and tokens are grouped changes no bit.

#include <span>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

void attendInt8Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);

}  // namespace tandem::cpu
