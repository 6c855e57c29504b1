#pragma once

#include "cuda/select-pages.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// A kernel of selectPages: writes `orders` of the older mid pages, by the bounds that the scales of their
// keys are. Of rows alone that have more of them than are looked at key by key.
void boundOlderPages(const SelectPages& problem, Stream stream);

}  // namespace tandem::cuda
