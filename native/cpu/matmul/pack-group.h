#pragma once

// Rounding of kGroup weights to codes, as often as a model has groups while it is loaded.

#include <cstdint>

#include "cpu/isa.h"
#include "cpu/matmul/matmul.h"

namespace tandem::cpu {

// Each returns the group's scale, and sets a code for each value. Every instruction set gives the same.
struct PackGroup {
  // A value is near (code - 128) * scale.
  float (*int8)(const float* group, std::uint8_t* codes);
  // A value is near (code - 8) * factor * scale, with a factor for each of kParts.
  float (*int4)(const float* group, std::int8_t* factors, std::uint8_t* codes);
};

const PackGroup& packGroupOf(Isa isa);

extern const PackGroup kPortablePackGroup;
#if defined(__x86_64__)
extern const PackGroup kAvx2PackGroup;
#endif

}  // namespace tandem::cpu
