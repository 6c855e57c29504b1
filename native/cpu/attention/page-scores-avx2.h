#pragma once

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

// As page-scores-avx512.h, in products of bytes of which two make an int16.
void scorePageAvx2(const PageScores& page);

}  // namespace tandem::cpu
