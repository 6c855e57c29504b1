#pragma once

#include "core/ops.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// See Ops::requantize in core/ops.h: int4 pages become far. Their bytes go to `detail` in pinned host memory,
// by its address, and what remains of them is an outline.
struct OutlinePages {
  const PageConversion* conversions = nullptr;  // [count] on the device, its pages too
  int count = 0;
};

void outlinePages(const OutlinePages& problem, Stream stream);

}  // namespace tandem::cuda
