#pragma once

// Matrix products in float64, for tools that work on checkpoints. Serving has its own kernels in `matmul/`.

#include <cstdint>

#include "cpu/isa.h"

namespace tandem::cpu {

// Element (row, col) stands at data[row * rowStride + col * colStride]: a transposed matrix or a block of
// columns is a view like any other.
struct MatrixView {
  const double* data = nullptr;
  std::int64_t rowStride = 0, colStride = 0;
};

struct Product {
  MatrixView a;            // [rows, depth]
  MatrixView b;            // [depth, cols]
  double* out;             // [rows, cols]
  std::int64_t outStride;  // between rows
  std::int64_t rows, cols, depth;
  bool add;  // to what is in `out`
};

// The same bits for any number of threads.
void multiply(const Product& product, int threads, Isa isa);

}  // namespace tandem::cpu
