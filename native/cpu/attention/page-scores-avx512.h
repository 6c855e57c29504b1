#pragma once

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

// In products of bytes, as attention to these pages is: see packed-attention-avx512.h.
void scorePageAvx512(const PageScores& page);

}  // namespace tandem::cpu
