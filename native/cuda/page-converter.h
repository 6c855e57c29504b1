#pragma once

#include <span>

#include "core/ops.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// Brings lists of pages to the device, to be written there in another class. One thread's.
class PageConverter {
 public:
  PageConverter();

  // Returns when the pages are written.
  void convert(std::span<const PageConversion> conversions, Stream stream);

 private:
  PinnedMemory host_;
  DeviceMemory device_;
};

}  // namespace tandem::cuda
