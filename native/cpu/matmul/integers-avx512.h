#pragma once

// The dots of integer weights that every processor with AVX-512 and VNNI has.

#include "cpu/matmul/kernels.h"

namespace tandem::cpu::avx512 {

void int8Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead ahead, float* c);
void int4Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead ahead, float* c);

}  // namespace tandem::cpu::avx512
