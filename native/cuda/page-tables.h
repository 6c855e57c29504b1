#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/global-memory.h"
#include "kv/page-format.h"

#ifdef __CUDACC__
#define TANDEM_ON_BOTH __host__ __device__
#else
#define TANDEM_ON_BOTH
#endif

namespace tandem::cuda {

// A page's place in a table: its address, which is a multiple of 64, and its precision class in the low bits;
// 0 where there is no page, because it was given up: then nobody sees its tokens.
TANDEM_ON_BOTH inline std::uint64_t pageEntry(const std::byte* page, PrecisionClass precision) {
  if (page == nullptr) return 0;
  return reinterpret_cast<std::uintptr_t>(page) | static_cast<std::uint64_t>(precision);
}

// The pages of all sequences of a step in one layer, on the device. `entries` stays there from step to step,
// a row for each slot; a step says by `slots` which rows are its sequences'.
//
// The order within a page is the CPU's (kv/page-format.h). Its pairs of channels (K) and of tokens (V) are
// the registers of a tensor core's operand, so a lane's 16-byte load is four operands.
struct PageTables {
  const std::uint64_t* entries = nullptr;  // [slots, slotStride]
  std::int64_t slotStride = 0;
  const std::int32_t* slots = nullptr;  // [sequences]
  PageFormat format;                    // in the pool's own class, which most pages that grow have

  TANDEM_ON_BOTH std::uint64_t entry(int sequence, int index) const {
    return entries[slots[sequence] * slotStride + index];
  }
  TANDEM_ON_BOTH static std::byte* pageOf(std::uint64_t entry) {
    return inGlobalMemory(
        reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(entry & ~std::uint64_t{7})));
  }
  TANDEM_ON_BOTH static PrecisionClass classOf(std::uint64_t entry) {
    return static_cast<PrecisionClass>(entry & 7);
  }
  // The entry of the page itself: of a far one that of the int4 page which its outline names, in host memory
  // that the device reads by the same address. `outlines`: their format.
  TANDEM_ON_BOTH static std::uint64_t detailOf(std::uint64_t entry, const PageFormat& outlines) {
    if (classOf(entry) != PrecisionClass::far) return entry;
    const std::byte* place = pageOf(entry) + outlines.detailPlace();
    return pageEntry(*reinterpret_cast<const std::byte* const*>(place), PrecisionClass::int4);
  }
  TANDEM_ON_BOTH std::byte* page(int sequence, int index) const { return pageOf(entry(sequence, index)); }
  TANDEM_ON_BOTH PageFormat formatOf(int sequence, int index) const {
    return format.in(classOf(entry(sequence, index)));
  }
};

}  // namespace tandem::cuda

#undef TANDEM_ON_BOTH
