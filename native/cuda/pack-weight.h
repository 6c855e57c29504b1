#pragma once

#include <cstdint>

#include "core/ops.h"
#include "cuda/stream.h"
#include "cuda/weight-tiles.h"

namespace tandem::cuda {

// Some rows of a checkpoint's matrix become outputs of a packed weight. All on the device.
struct PackRows {
  const std::byte* source = nullptr;  // [rows, tiles.inputs] of `type`, aligned to 16 bytes
  CheckpointType type = CheckpointType::bf16;
  CheckpointScales scales;     // of the matrix; `values` on the device
  std::int64_t matrixRow = 0;  // which of it the first row is
  std::int64_t rows = 0;
  // Row i becomes output first + i, or, where eights of two matrices take turns, that of matrix `turn`.
  std::int64_t first = 0;
  int turns = 1, turn = 0;
  WeightTiles tiles;
  std::byte* out = nullptr;  // tiles.data, zeros where nothing is packed yet
};

void packRows(const PackRows& problem, Stream stream);

}  // namespace tandem::cuda
