#pragma once

#include "cuda/select-pages.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// The first kernel of selectPages: writes `orders`, by the bounds that the scales of each mid page's keys
// are. Of rows alone that have more mid pages than are looked at key by key.
void boundMidPages(const SelectPages& problem, Stream stream);

}  // namespace tandem::cuda
