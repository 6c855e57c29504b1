#pragma once

// The two kernels behind `prefillAttention`. They give the same bits.

#include "cuda/prefill-attention.h"

namespace tandem::cuda {

// Rows of a block: tokens of a tile times the query heads of a KV head.
inline constexpr int kPrefillRows = 128;

// By mma.sync, on every device.
void prefillByMma(const PrefillAttention& problem, Stream stream);

// By wgmma, 9.0 alone.
void prefillByWgmma(const PrefillAttention& problem, Stream stream);

}  // namespace tandem::cuda
