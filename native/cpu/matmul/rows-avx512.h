#pragma once

// Row kernels that everything from AVX-512 up shares. Those that need no BF16 are compiled without it.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "cpu/matmul/matmul.h"

namespace tandem::cpu::avx512 {

[[gnu::always_inline]] inline __mmask16 firstLanes(std::size_t count) {
  return count >= 16 ? __mmask16(0xffff) : static_cast<__mmask16>((1u << count) - 1);
}

// In instructions of BF16.
void roundRowBf16(const float* x, std::size_t count, bf16* out);

float quantizeGroup(const float* x, std::size_t count, std::int8_t* codes, std::int32_t (&sums)[kParts]);
void swiGlu(const float* gate, const float* up, std::size_t count, float* y);

}  // namespace tandem::cpu::avx512
