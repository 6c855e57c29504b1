#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// y = silu(gate + gateBias) * (up + upBias), after a matmul with gate's and up's weights stacked.
struct SwiGlu {
  const bf16* gateUp = nullptr;  // [rows, 2 * cols]: gate, then up
  const float* bias = nullptr;   // [2 * cols], or null
  bf16* y = nullptr;             // [rows, cols]
  std::int64_t rows = 0;
  int cols = 0;  // a multiple of 8
};

void swiGlu(const SwiGlu& problem, Stream stream);

}  // namespace tandem::cuda
