#include "cuda/matmul-plan.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "cuda/weight-tiles.h"

namespace tandem::cuda {
namespace {

std::int64_t parts(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

struct Candidate {
  MatmulTile tile;
  int blocksPerSm = 1;
};

std::vector<Candidate> candidates(const MatmulShape& shape) {
  const bool codes = shape.weightClass != WeightClass::bf16;
  if (shape.rows > 64) {
    std::vector<Candidate> all{{{2, 2, 64}}, {{2, 2, 128}}, {{2, 2, 256}}};
    if (!codes) all.push_back({{1, 2, 64}});
    if (codes && shape.granularity == 1) all.insert(all.end(), {{{1, 1, 64}}, {{2, 1, 64}}});
    return all;
  }
  int rows = 8;
  while (rows < shape.rows) rows *= 2;
  std::vector<Candidate> all{{{2, 2, rows}}};
  if (!codes) {
    all.push_back({{1, 2, rows}});
    return all;
  }
  if (MatmulTile{2, 2, rows}.halfSm()) all.push_back({{2, 2, rows}, 2});
  if (rows >= 32) all.push_back({{4, 2, rows}});
  if (shape.granularity == 1) all.insert(all.end(), {{{1, 1, rows}}, {{2, 1, rows}}});
  return all;
}

constexpr std::size_t kSmShared = std::size_t{228} << 10, kReserved = 1 << 10;  // of each block

void divideShared(MatmulPlan& plan, WeightClass weightClass) {
  const int unit = unitBytesOf(weightClass), xBytes = plan.boxRows * 128;
  const int depth = plan.tile.depth(weightClass);
  plan.stageBytes = static_cast<int>(parts(depth * (xBytes + plan.tileEights * unit), 1024)) * 1024;
  // Where the operands of a stage's last step end, were they whole. Codes are no operands.
  const int xEnd = (depth - 1) * xBytes + plan.tile.rows * 128;
  const int wEnd = weightClass == WeightClass::bf16
                       ? depth * xBytes + ((depth - 1) * plan.tileEights + plan.tile.mostEights()) * unit
                       : 0;
  const std::size_t rest = kBarrierBytes + std::max({xEnd, wEnd, plan.stageBytes}) - plan.stageBytes;
  const std::size_t most = (plan.tile.halfSm() ? kSmShared / 2 : kSmShared) - kReserved;
  const int room = rest < most ? static_cast<int>((most - rest) / plan.stageBytes) : 0;
  plan.stages = std::min(kMostStages, room);
  plan.sharedBytes = rest + static_cast<std::size_t>(plan.stages) * plan.stageBytes;
  check(plan.stages >= kFewestStages, "a matmul's tile exceeds the shared memory");
}

MatmulPlan planWith(const Candidate& candidate, const MatmulShape& shape, int sms) {
  MatmulPlan plan;
  plan.tile = candidate.tile;
  plan.rowTiles = static_cast<int>(parts(shape.rows, plan.tile.rows));
  const int pieces = shape.eights / shape.granularity;
  const int fewest = static_cast<int>(parts(pieces, plan.tile.mostEights() / shape.granularity));
  // As many more, and narrower, as cost no further round of blocks.
  const int places = sms * candidate.blocksPerSm;
  const std::int64_t rounds = parts(std::int64_t{plan.rowTiles} * fewest, places);
  const std::int64_t filling = rounds * places / plan.rowTiles;
  plan.columnTiles = static_cast<int>(std::clamp<std::int64_t>(filling, fewest, pieces));
  plan.tileEights = static_cast<int>(parts(pieces, plan.columnTiles)) * shape.granularity;
  plan.blocks =
      static_cast<int>(std::min<std::int64_t>(places, std::int64_t{plan.rowTiles} * plan.columnTiles));
  plan.boxRows = static_cast<int>(std::min<std::int64_t>(plan.tile.rows, parts(shape.rows, 8) * 8));
  divideShared(plan, shape.weightClass);
  return plan;
}

// Nanoseconds that a plan takes, by what bounds a step of it: one warp's chain of instructions and products,
// tensor cores, what L2 gives an SM, or memory. The constants were fitted to the times of all tiles on an
// H200, of which the choice by them is half a percent slower than the fastest, in the mean; they choose among
// tiles, no more.
double timeOf(const MatmulPlan& plan, const MatmulShape& shape, int sms) {
  constexpr double kL2PerSm = 46, kMemory = 4650;  // bytes a nanosecond
  const bool codes = shape.weightClass != WeightClass::bf16;
  const MatmulTile& tile = plan.tile;
  const double ofSm = std::max(1.0, 1.0 * plan.blocks / sms);
  const double w = 1.0 * plan.tileEights * unitBytesOf(shape.weightClass), x = plan.boxRows * 128.0;
  const double others = ofSm * tile.warpgroups - 1;
  const double chain =
      codes ? 73 + 0.31 * tile.rows + tile.eights * (23 + 12 * others) : 117 + 0.6 * tile.rows + 12 * others;
  const double tensor = 1.2 * ofSm * tile.warpgroups * std::max(35, tile.rows);
  const double fromL2 = ofSm * (w + x) / kL2PerSm, fromMemory = w * plan.blocks / kMemory / plan.rowTiles;
  const double step = std::max({chain, tensor, fromL2, fromMemory});
  const double ending = 1950 + 4.4 * tile.rows;
  const auto rounds = parts(std::int64_t{plan.rowTiles} * plan.columnTiles, plan.blocks);
  return static_cast<double>(rounds) * (shape.steps * step + ending);
}

}  // namespace

std::vector<MatmulPlan> possiblePlans(const MatmulShape& shape, int sms) {
  std::vector<MatmulPlan> plans;
  for (const Candidate& candidate : candidates(shape)) plans.push_back(planWith(candidate, shape, sms));
  return plans;
}

MatmulPlan planMatmul(const MatmulShape& shape, int sms) {
  MatmulPlan best;
  double least = std::numeric_limits<double>::infinity();
  for (const MatmulPlan& plan : possiblePlans(shape, sms)) {
    const double time = timeOf(plan, shape, sms);
    if (time < least) {
      least = time;
      best = plan;
    }
  }
  return best;
}

}  // namespace tandem::cuda
