#pragma once

// What bulk copies must know of a matrix whose rows they read.

#include <cstdint>

#if defined(TANDEM_CUDA_EMULATION)
#include "core/bf16.h"
#else
#include <cuda.h>
#endif

namespace tandem::cuda {

#if defined(TANDEM_CUDA_EMULATION)
struct RowsMap {
  const bf16* rows;
  std::int64_t count, cols;
  int boxRows;
};
#else
using RowsMap = CUtensorMap;
#endif

// Rows of bf16 in global memory [count, cols], to be read in boxes of some rows and 64 columns.
// `rows` aligned to 16 bytes, cols a multiple of 8, boxRows up to 256.
RowsMap makeRowsMap(const void* rows, std::int64_t count, std::int64_t cols, int boxRows);

// Whether the calling thread's device has these and wgmma.
bool hasWgmma();

}  // namespace tandem::cuda
