#pragma once

#include <cstdint>

#include "core/bf16.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Per row: x += delta where there is one, then out = x / rms(x) * gain. All on the device.
struct RmsNorm {
  bf16* x = nullptr;            // [rows, cols]
  const bf16* delta = nullptr;  // [rows, cols], or null: x stays as it is
  const float* gain = nullptr;  // [cols]
  bf16* out = nullptr;          // [rows, cols]; may be x where there is no delta
  std::int64_t rows = 0;
  int cols = 0;  // a multiple of 8 up to 16384
  float eps = 0;
};

void rmsNorm(const RmsNorm& norm, Stream stream);

}  // namespace tandem::cuda
