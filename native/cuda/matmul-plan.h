#pragma once

// How a matmul's outputs are divided into tiles on an architecture with wgmma. Changes no bit of the result.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/ops.h"

namespace tandem::cuda {

inline constexpr int kBandRows = 2048;  // that are computed before the next ones

// Up to so many rows of x one tile holds, and a matmul is mostly bound by reading W.
inline constexpr int kFewRows = 64;
// Of tiles for more rows, in steps of a quarter to a third: a matmul of one row more than a tile holds is not
// to cost much more. 136 and not 128, since a chunk of 256 tokens often comes with some streams.
inline constexpr std::array kManyRows{64, 80, 104, 136, 192, 256};

// Outputs are the 64 rows of a product, and rows of x its columns. A tile's warpgroups take 64 outputs each,
// or 32 where `eights` is 1: then a warp has eight outputs, and the codes of few outputs are expanded by
// more.
struct MatmulTile {
  int warpgroups = 1;
  int eights = 2;  // of outputs, of a warp
  int rows = 8;

  constexpr int mostEights() const { return 4 * warpgroups * eights; }
  // Steps of 64 inputs that are loaded together: narrow tiles are done sooner than begun.
  constexpr int depth(WeightClass weightClass) const {
    if (weightClass == WeightClass::bf16) return rows <= 64 && warpgroups == 1 ? 2 : 1;
    return rows > 64 ? 1 : warpgroups == 1 && rows <= 16 ? 4 : 2;
  }
  // Whether a block leaves half of an SM to another one: of this matmul, or of the next, whose first weights
  // are loaded while this one ends.
  constexpr bool halfSm() const { return warpgroups <= 2 && rows < 64; }
  constexpr bool operator==(const MatmulTile&) const = default;
};

// In a block's shared memory there lie, one behind the other,
// - stages of [depth] x [boxRows, 64] and [depth] W [tileEights] units, each at a multiple of 1024 bytes;
// - what is read behind the last of them, since operands are read to the end of the tile's registers: it is
//   computed with and not stored;
// - barriers.
inline constexpr int kMostStages = 32, kFewestStages = 3;
inline constexpr int kMostDepth = 4;
inline constexpr std::size_t kBarrierBytes = 1024;

struct MatmulShape {
  std::int64_t rows = 0;
  int eights = 0;       // of outputs
  int granularity = 1;  // eights that must stay together: 2 of a gated weight
  int steps = 0;        // of 64 inputs, even
  WeightClass weightClass = WeightClass::bf16;
};

struct MatmulPlan {
  MatmulTile tile;
  int rowTiles = 0, columnTiles = 0;
  // Of x that a stage holds: those of the tallest tile. Tiles of rows are as equal as eights of them allow,
  // and the first so many are tallest. Were all but the last as tall as a tile can be, the last one's boxes
  // would mostly lie beyond x. On an H200 rows of zeros took 4 to 5 ns each: with 127 of 128 in every third
  // box the matmuls of a layer took 481 us, with 64 of them 363.
  int boxRows = 0;
  int tallTiles = 0;
  int tileEights = 0;  // of the widest tile: tiles of columns are as equal as the granularity allows
  int blocks = 0;      // each takes tiles in turn
  int stages = 0;      // of loaded inputs in shared memory
  int stageBytes = 0;
  std::size_t sharedBytes = 0;
};

// One for each kernel there is that suits, and number of blocks an SM.
std::vector<MatmulPlan> possiblePlans(const MatmulShape& shape, int sms);

// Nanoseconds that a plan is foreseen to take, for the choice among plans.
double foreseenTime(const MatmulPlan& plan, const MatmulShape& shape, int sms);

// The one that is foreseen to be fastest.
MatmulPlan planMatmul(const MatmulShape& shape, int sms);

// The first row of a tile of rows; the next one's first is its end, where there are so many rows.
constexpr int firstRowOf(int tile, int boxRows, int tallTiles) {
  return tile * boxRows - 8 * (tile > tallTiles ? tile - tallTiles : 0);
}

// The first eight of a tile of columns; the next one's first is its end.
constexpr int firstEightOf(int tile, int columnTiles, int eights, int granularity) {
  const std::int64_t pieces = eights / granularity;
  return static_cast<int>(tile * pieces / columnTiles) * granularity;
}

}  // namespace tandem::cuda
