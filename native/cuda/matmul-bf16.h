#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// y = x Wt for many rows, W row-major as in a checkpoint. All on the device.
struct MatmulBf16 {
  const bf16* x = nullptr;  // [rows, inputs]
  const bf16* w = nullptr;  // [outputs, inputs]
  bf16* y = nullptr;        // [rows, outputs]
  std::int64_t rows = 0;
  int outputs = 0;  // a multiple of 8
  int inputs = 0;   // a multiple of 32
};

void matmulBf16(const MatmulBf16& problem, Stream stream);

}  // namespace tandem::cuda
