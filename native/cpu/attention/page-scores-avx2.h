#pragma once

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

// As page-scores-avx512.h, in the products of packed-attention-avx2.h.
void scorePageAvx2(const PageScores& page);
void scorePageAvxVnni(const PageScores& page);

}  // namespace tandem::cpu
