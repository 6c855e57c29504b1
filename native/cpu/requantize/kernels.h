#pragma once

// Writing one head block of a page in another class. The same arithmetic on every instruction set, bit for
// bit.

#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "cpu/isa.h"

namespace tandem::cpu {

// The parts of a head block as kv/page-format.h lays them out.
struct HeadSource {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  const float* keyScales = nullptr;  // [kPageTokens] of int8, or null: the elements are bf16
  const float* valueScales = nullptr;
  int headDim = 0;
};

struct HeadTarget {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  std::byte* keyScales = nullptr;
  std::byte* valueScales = nullptr;
};

struct RequantizeKernels {
  void (*toInt8)(const HeadSource& from, const HeadTarget& to);
  void (*toInt4)(const HeadSource& from, const HeadTarget& to);
  void (*toInt2)(const HeadSource& from, const HeadTarget& to);
};

RequantizeKernels requantizeKernels(Isa isa);

extern const RequantizeKernels kPortableRequantize;
extern const RequantizeKernels kAvx2Requantize;
extern const RequantizeKernels kAvx512Requantize;

}  // namespace tandem::cpu
