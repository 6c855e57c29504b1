#pragma once

#include <cstddef>

#include "core/bf16.h"

namespace tandem::cpu {

// The most rows that `addDots` takes.
inline constexpr int kDotRows = 4;

// sums[row][output] += a[row] . panel[output], for every processor. A panel is [inputs / 2][outputs][2], as
// packed weights, pages' keys and pages' values lie; outputs: a multiple of 8. Inputs are added in ascending
// order, one by one, so a row's sums do not depend on the others.
void addDots(int rows, const bf16* const* a, const bf16* panel, std::size_t outputs, std::size_t inputs,
             float* const* sums);

}  // namespace tandem::cpu
