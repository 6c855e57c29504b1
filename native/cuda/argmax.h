#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/stream.h"

namespace tandem::cuda {

// What stands in the place of a token where none can be chosen.
inline constexpr std::int32_t kNanLogits = -1;
inline constexpr std::int32_t kInfiniteLogits = -2;
inline constexpr std::int32_t kNoLogits = -3;  // every one is minus infinity

// The token with the highest logit of each row, the lowest of equals. All on the device.
struct Argmax {
  const float* logits = nullptr;   // [rows, vocab]
  std::uint64_t* parts = nullptr;  // argmaxScratch(...) bytes
  std::int32_t* tokens = nullptr;  // [rows]
  std::int64_t rows = 0;
  int vocab = 0;
  float* highest = nullptr;  // [rows] the logits of the tokens; may be null
};

std::size_t argmaxScratch(std::int64_t rows, int vocab);

void argmax(const Argmax& problem, Stream stream);

}  // namespace tandem::cuda
