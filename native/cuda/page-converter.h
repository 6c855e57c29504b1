#pragma once

#include <span>

#include "core/ops.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// Brings lists of pages to the device, to be written there in another class, int4 ones to host memory too.
// One thread's.
class PageConverter {
 public:
  PageConverter();

  // Returns when the pages are written. None may be made from what another one of the list becomes.
  void convert(std::span<const PageConversion> conversions, Stream stream);

 private:
  PinnedMemory host_;
  DeviceMemory device_;
};

}  // namespace tandem::cuda
