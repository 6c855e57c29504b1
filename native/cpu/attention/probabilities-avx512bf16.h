#pragma once

// A tile's probabilities in bf16. Include only from files compiled for AVX-512 with BF16.

#include <immintrin.h>

#include "core/bf16.h"

namespace tandem::cpu {

// Of a query, by token.
[[gnu::always_inline]] inline void storeRounded(bf16* to, __m512 p0, __m512 p1) {
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(p1, p0));
}

}  // namespace tandem::cpu
