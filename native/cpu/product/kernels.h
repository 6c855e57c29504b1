#pragma once

// The innermost part of a matrix product in float64.

#include <cstdint>

#include "cpu/isa.h"

namespace tandem::cpu {

struct ProductKernel {
  int rows = 0, cols = 0;  // of a tile
  // out [rows, cols] = the product of a, packed [depth, rows], and b, packed [depth, cols].
  void (*tile)(std::int64_t depth, const double* a, const double* b, double* out) = nullptr;
};

ProductKernel productKernel(Isa isa);

extern const ProductKernel kPortableProduct;
extern const ProductKernel kAvx2Product;
extern const ProductKernel kAvx512Product;

}  // namespace tandem::cpu
