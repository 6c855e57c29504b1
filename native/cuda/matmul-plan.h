#pragma once

// How a matmul's outputs are divided into tiles on an architecture with wgmma. Changes no bit of the result.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/ops.h"

namespace tandem::cuda {

inline constexpr int kBandTiles = 16;  // tiles of rows that are computed before the next ones

// In a block's shared memory there lie, one behind the other,
// - stages of [depth] x [boxRows, 64] and [depth] W [tileEights] units, each at a multiple of 1024 bytes;
// - for int8 slots of [depth] W [tileEights][8, 64] made bf16;
// - what is read behind the last of them, since operands are read to the end of the tile's registers: it is
//   computed with and not stored;
// - barriers.
inline constexpr int kMostStages = 32, kFewestStages = 3;
inline constexpr int kMostDepth = 4;
inline constexpr int kMostSlots = 8;
constexpr int mostSlots(int tileOutputs) { return tileOutputs <= 64 ? kMostSlots : 6; }
inline constexpr std::size_t kBarrierBytes = 1024;

struct MatmulShape {
  std::int64_t rows = 0;
  int eights = 0;       // of outputs
  int granularity = 1;  // eights that must stay together: 2 of a gated weight
  int steps = 0;        // of 64 inputs
  WeightClass weightClass = WeightClass::bf16;
};

struct MatmulPlan {
  int warpgroups = 1;   // of 64 rows each
  int tileOutputs = 0;  // that a tile has registers for
  int rowTiles = 0, columnTiles = 0;
  int tileEights = 0;  // of the widest tile: tiles of columns are as equal as the granularity allows
  int blocks = 0;      // each takes tiles in turn
  int depth = 1;       // steps that are loaded together: narrow tiles are done sooner than begun
  int stages = 0;      // of loaded inputs in shared memory
  int slots = 0;       // of those made bf16: no more than stages
  int stageBytes = 0;
  int boxRows = 0;  // of x that a stage holds
  std::size_t sharedBytes = 0;
};

// One for each kernel there is.
std::vector<MatmulPlan> possiblePlans(const MatmulShape& shape, int sms);

// The one that is likely to be fastest.
MatmulPlan planMatmul(const MatmulShape& shape, int sms);

// The first eight of a tile of columns; the next one's first is its end.
constexpr int firstEightOf(int tile, int columnTiles, int eights, int granularity) {
  const std::int64_t pieces = eights / granularity;
  return static_cast<int>(tile * pieces / columnTiles) * granularity;
}

}  // namespace tandem::cuda
