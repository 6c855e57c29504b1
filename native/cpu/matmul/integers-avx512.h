#pragma once

// The kernels of integer weights that every processor with AVX-512 and VNNI has.

#include "cpu/matmul/kernels.h"

namespace tandem::cpu::avx512 {

void int8Dot(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
             Ahead ahead, float* c);
void int4Dot(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
             Ahead ahead, float* c);
void widenInt4(const IntegerPanel& panel, std::size_t groups, std::uint8_t* codes);

}  // namespace tandem::cpu::avx512
