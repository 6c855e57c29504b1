#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/stream.h"

namespace tandem::cuda {

enum class Store : std::uint8_t {
  bf16,    // y = ...
  add,     // y += ..., in bf16: the residual stream's add
  float32  // logits
};

// y = x Wt + bias for few rows, W as int8-weight.h packs it. All on the device.
struct MatmulInt8 {
  const bf16* x = nullptr;  // [rows, inputs]
  const std::int8_t* codes = nullptr;
  const float* scales = nullptr;
  const float* bias = nullptr;  // [outputs], or null
  void* y = nullptr;            // [rows, outputs], bf16 or float
  Store store = Store::bf16;
  std::int64_t rows = 0;
  int outputs = 0;
  int inputs = 0;  // a multiple of 8
};

void matmulInt8(const MatmulInt8& problem, Stream stream);

}  // namespace tandem::cuda
