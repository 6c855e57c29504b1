#pragma once

#include <cstdint>
#include <span>

#include "core/bf16.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// out[i] = x[rows[i]]. x and out are on the device, `rows` is the host's and read before this returns: the
// numbers travel with the launch.
struct GatherRows {
  const bf16* x = nullptr;  // [., cols]
  std::span<const std::int64_t> rows;
  bf16* out = nullptr;  // [rows.size(), cols]
  int cols = 0;         // a multiple of 8
};

void gatherRows(const GatherRows& problem, Stream stream);

}  // namespace tandem::cuda
