#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// out[i] = table[tokens[i]]. All on the device.
struct Embed {
  const bf16* table = nullptr;           // [vocab, cols]
  const std::int32_t* tokens = nullptr;  // [rows], in the vocabulary
  bf16* out = nullptr;                   // [rows, cols]
  std::int64_t rows = 0;
  int cols = 0;  // a multiple of 8
};

void embed(const Embed& problem, Stream stream);

}  // namespace tandem::cuda
