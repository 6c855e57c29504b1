#pragma once

#include "cuda/select-pages.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// A kernel of selectPages: writes `orders` of the newest mid pages, by what their keys score. Of rows alone
// that do not see all of mid.
void scoreNewestPages(const SelectPages& problem, Stream stream);

// Neighbouring rows of a sequence for which a page's keys are brought once, at most; `group` heads each.
constexpr int rowsScoredTogether(int group) { return 32 / group; }

}  // namespace tandem::cuda
