#pragma once

#include "core/ops.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// See Ops::requantize in core/ops.h: a page becomes, bit for bit, what the CPU makes of it. All pages have
// the heads of `format`; their classes are each conversion's own.
struct Requantize {
  const PageConversion* conversions = nullptr;  // [count] on the device, its pages too
  int count = 0;
  PageFormat format;
};

// Throws Error if a conversion is not one that exists: these are the ones that `conversions` has on the
// device, and those to far, which are outlinePages' (outline-pages.h).
void validate(std::span<const PageConversion> conversions, const PageFormat& format);

void requantize(const Requantize& problem, Stream stream);

}  // namespace tandem::cuda
