#pragma once

// Passes over a row of logits, compiled once per instruction set from row-kernels.inl.

#include <cstddef>
#include <cstdint>

#include "cpu/isa.h"

namespace tandem::cpu {

struct RowKernels {
  // The largest value that is not NaN, and whether one is NaN. count >= 1
  float (*highest)(const float* x, std::size_t count, bool* nan);

  // Index of the first value equal to `value`, or count.
  std::size_t (*find)(const float* x, std::size_t count, float value);

  // How many values are greater than `threshold`.
  std::size_t (*countAbove)(const float* x, std::size_t count, float threshold);

  // out[i] = exp((x[i] - origin) * scale), 0 where x[i] < floor; returns the sum. (x[i] - origin) * scale <=
  // 0
  double (*exponentials)(const float* x, std::size_t count, float origin, float scale, float floor,
                         float* out);

  // x[i] = -infinity where bit i is 0. bits [count / 32, rounded up]
  void (*keepAllowed)(float* x, std::size_t count, const std::uint32_t* bits);
};

RowKernels rowKernels(Isa isa);

extern const RowKernels kPortableRows;
extern const RowKernels kAvx2Rows;
extern const RowKernels kAvx512Rows;

}  // namespace tandem::cpu
