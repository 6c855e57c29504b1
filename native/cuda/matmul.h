#pragma once

// y = x Wt and what follows it, for any number of rows. Every output is one chain of sums over the inputs, in
// steps of 16 in ascending order, whichever kernel computes it: its bits depend on its row of x and on W
// alone.

#include <cstdint>
#include <memory>
#include <span>

#include "core/bf16.h"
#include "core/ops.h"
#include "cuda/runtime.h"
#include "cuda/stream.h"
#include "cuda/weight-tiles.h"

namespace tandem::cuda {

// A matrix on the device, in the tiles of weight-tiles.h.
class CudaWeight final : public Weight {
 public:
  std::int64_t outputs() const override { return tiles_.outputs; }
  std::int64_t inputs() const override { return tiles_.inputs; }
  std::size_t bytes() const override { return memory_.bytes(); }
  WeightLayout layout() const { return layout_; }
  const WeightTiles& tiles() const { return tiles_; }
  // Whether its device has wgmma.
  bool wgmma() const { return wgmma_; }

 private:
  friend std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix>, WeightLayout, WeightClass,
                                            Stream);

  WeightLayout layout_ = WeightLayout::stacked;
  WeightTiles tiles_;
  bool wgmma_ = false;
  DeviceMemory memory_;
};

// Copies the matrices to the device and packs them there; returns when the sources are no longer needed.
// Throws Error for inputs that differ or are no multiple of 8, and for a `gated` that is not two matrices
// of equal shape.
std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix> parts, WeightLayout layout,
                                   WeightClass weightClass, Stream stream);

enum class Epilogue : std::uint8_t {
  store,   // y = x Wt + bias, bf16
  add,     // y += x Wt + bias, bf16: the residual stream's add
  swiGlu,  // y [rows, outputs / 2] = silu(gate) * up, bf16, of a `gated` weight
  logits   // y = x Wt + bias, float32
};

struct Matmul {
  const bf16* x = nullptr;  // [rows, inputs], aligned to 16 bytes
  const CudaWeight* w = nullptr;
  const float* bias = nullptr;  // [outputs], of a `gated` weight gate's then up's; or null
  void* y = nullptr;            // [rows, outputs], aligned to 16 bytes
  Epilogue epilogue = Epilogue::store;
  std::int64_t rows = 0;
};

// `sms`: how many the stream runs on. It shapes the grid and never changes a bit of the result.
void matmul(const Matmul& problem, int sms, Stream stream);

}  // namespace tandem::cuda
