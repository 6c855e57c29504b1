#pragma once

#include <algorithm>

#include "cuda/select-pages.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// A kernel of selectPages: writes `orders` of the newest mid pages, by what their keys score. Of rows alone
// that do not see all of mid.
void scoreNewestPages(const SelectPages& problem, Stream stream);

// Rows of a sequence for which a page's keys are brought once where they lie beside each other, with `group`
// heads each: those whose heads are the columns of four tiles.
constexpr int rowsScoredTogether(int group) { return std::max(1, 32 / group); }

}  // namespace tandem::cuda
