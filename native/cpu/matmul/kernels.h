#pragma once

// The inner loops that each instruction set implements, over one panel of kPanel outputs and a few rows.
//
// For every row and output the sums run over the inputs in ascending order, in one chain of the same
// instructions however many rows a call has; so a row's result does not depend on its neighbours.

#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "cpu/isa.h"
#include "cpu/matmul/matmul.h"

namespace tandem::cpu {

inline constexpr int kPanel = 64;

// Activations of some rows in the kernels' integer format.
struct QuantizedRows {
  const std::int8_t* codes;  // [rows][stride]
  std::size_t stride;        // padded inputs, a multiple of kGroup
  const float* scales;       // [rows][groups]: value = scale * code
  const std::int32_t*
      corrections;  // [rows][groups][parts]: minus the weights' zero point times the codes' sum
  std::size_t groups;
  std::size_t parts;  // of a group: kParts for int4Dot, 1 for int8Dot

  // Always inlined: of an inline function with a symbol the linker might keep the copy of another processor.
  [[gnu::always_inline]] QuantizedRows from(std::size_t row, std::size_t group) const {
    const std::size_t at = row * groups + group;
    return {
        codes + row * stride + group * kGroup, stride, scales + at, corrections + at * parts, groups, parts};
  }
};

// Integer weights of one panel, as they lie in a packed one.
struct IntegerPanel {
  const std::uint8_t* codes;
  const float* scales;         // [groups][kPanel]
  const std::int8_t* factors;  // of int4 [groups][kPanel][kParts]

  // From a group and an output on.
  [[gnu::always_inline]] IntegerPanel from(std::size_t group, std::size_t output,
                                           std::size_t groupBytes) const {
    const std::size_t at = group * kPanel + output;
    return {codes + group * groupBytes + output * 4, scales + at, factors ? factors + at * kParts : nullptr};
  }
};

// A hint: what to ask the memory for while a call multiplies, the lines from `from` on, so many with each
// kPanel * 4 bytes of the panel. Kernels that wait for arithmetic at every height leave it.
struct Ahead {
  const char* from;
  int linesPerStep;  // 0, 1, 2 or 4
};

// The products of some inputs, whole groups of them for integers; all pointers are to the first. c
// [rows][kPanel], a row's sums lie side by side. `first`: c holds nothing yet.
using Bf16Dot = void (*)(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs,
                         bool first, Ahead ahead, float* c);
using IntegerDot = void (*)(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups,
                            bool first, Ahead ahead, float* c);

struct Kernels {
  int tileRows;     // the most rows of a call
  bool readsAhead;  // whether the dots take their hint
  Bf16Dot bf16Dot;
  IntegerDot int8Dot;
  IntegerDot int4Dot;  // or none, where int4 weights are widened and multiplied as int8
  // Codes of int4 as int8 has them: code * factor.
  void (*widenInt4)(const IntegerPanel& panel, std::size_t groups, std::uint8_t* codes);
  // Rounds count floats to bf16.
  void (*roundRow)(const float* x, std::size_t count, bf16* out);
  // Symmetric codes -127..127 of one group of up to kGroup values, zero-padded; returns the scale, sets the
  // sum of each part.
  float (*quantizeGroup)(const float* x, std::size_t count, std::int8_t* codes, std::int32_t (&sums)[kParts]);
  // y = silu(gate) * up
  void (*swiGlu)(const float* gate, const float* up, std::size_t count, float* y);
};

const Kernels& kernelsOf(Isa isa);

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvxVnniKernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAmxKernels;
#endif

}  // namespace tandem::cpu
