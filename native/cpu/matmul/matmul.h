#pragma once

// y = x Wt on the CPU: packing of weights, and the matmuls of core/ops.h over them.

#include <memory>
#include <span>

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/isa.h"

namespace tandem::cpu {

// Tokens and groups: activations are quantized in groups of this many inputs, with one scale a row and group,
// and so are integer weights, with one scale an output and group. 128 keeps the float work at a group's end
// near a tenth of the integer work, and an outlier spoils 128 values only.
inline constexpr int kGroup = 128;

// What codes are stored above.
inline constexpr int kInt8Zero = 128, kInt4Zero = 8;

// Four bits are too few for 128 values of one range: each part of a group of int4 weights has a factor of its
// own, a whole number, so that the sums of a group still are exact.
inline constexpr int kPart = 32;
inline constexpr int kParts = kGroup / kPart;

// Reads the parts (bf16, f16 or f32, row-major, unaligned) and packs them for the matmuls. Throws Error if
// their inputs differ, or for `gated` if they are not two of equal shape.
std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix> parts, WeightLayout layout,
                                   WeightClass weightClass, ThreadTeam& team);

// Scratch memory for activations in the kernels' formats, grown when needed and kept.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// See core/ops.h. x [rows, inputs] and y are float32, row-major.
void linear(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const Weight& w,
            std::span<const float> bias, Tensor y);
void linearAdd(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const Weight& w,
               std::span<const float> bias, Tensor y);
void linearSwiGlu(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const Weight& w,
                  std::span<const float> bias, Tensor y);

}  // namespace tandem::cpu
