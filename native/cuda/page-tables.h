#pragma once

#include <cstddef>
#include <cstdint>

#include "kv/page-format.h"

namespace tandem::cuda {

// The pages of all sequences of a step in one layer, on the device. Pages lie in blocks, the pages of all
// layers for the same tokens side by side, so that one table of block numbers, uploaded once a step, serves
// every layer: `pages` begins at the layer's page of block 0.
//
// The order within a page is the CPU's (kv/page-format.h). Its pairs of channels (K) and of tokens (V) are
// the registers of a tensor core's B operand, so a lane's 16-byte load is four operands.
struct PageTables {
  std::byte* pages = nullptr;
  std::size_t blockBytes = 0;
  const std::int32_t* blocks = nullptr;  // [sequences, tableStride]
  std::int64_t tableStride = 0;
  PageFormat format;

  constexpr std::byte* page(int sequence, int index) const {
    return pages + blocks[sequence * tableStride + index] * blockBytes;
  }
};

}  // namespace tandem::cuda
