#pragma once

#include <cstdint>

#include "cuda/stream.h"

namespace tandem::cuda {

// tokens[i] = drawn[carried[i]] where carried[i] >= 0: a step goes on with what the one before it has drawn,
// which the host does not know yet. A row that drew nothing fails its step, and this one with it; till then
// its token is 0. All on the device.
struct CarryTokens {
  const std::int32_t* carried = nullptr;  // [rows]
  const std::int32_t* drawn = nullptr;    // by row of the step before
  std::int32_t* tokens = nullptr;         // [rows]
  std::int64_t rows = 0;
};

void carryTokens(const CarryTokens& problem, Stream stream);

}  // namespace tandem::cuda
