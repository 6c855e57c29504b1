#include "cuda/matmul-plan.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "cuda/weight-tiles.h"

namespace tandem::cuda {
namespace {

std::int64_t parts(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

// Nanoseconds of a step of 64 inputs by one block on an H200, of bf16 and of int8, where nothing is waited
// for. They choose among tiles, no more.
struct Tile {
  int warpgroups, outputs;
  double bf16Step, int8Step;
};
constexpr Tile kTiles[] = {{1, 32, 100, 126}, {1, 64, 150, 200}, {2, 128, 410, 700}, {2, 256, 740, 0}};

bool suits(const Tile& tile, const MatmulShape& shape) {
  if (tile.warpgroups > 1 && shape.rows <= 64) return false;
  // Warps that expand codes leave no registers for the widest.
  return shape.weightClass == WeightClass::bf16 || tile.int8Step > 0;
}

constexpr std::size_t kBlockShared = std::size_t{227} << 10;

void divideShared(MatmulPlan& plan, WeightClass weightClass) {
  const bool int8 = weightClass == WeightClass::int8;
  const int unit = int8 ? kInt8UnitBytes : kBf16UnitBytes, xBytes = plan.boxRows * 128;
  const int xEnd = 64 * plan.warpgroups * 128;
  const int wOvershoot = (plan.tileOutputs / kOutputsOfUnit - plan.tileEights) * kBf16UnitBytes;
  constexpr int kEnough = 4;
  // A stage of codes is held while it is made bf16 too, so that more and smaller ones must be on their way.
  const int widestDeep = int8 ? 64 : 128;
  for (plan.depth = std::clamp(widestDeep / plan.tileOutputs, 1, kMostDepth);; plan.depth /= 2) {
    plan.stageBytes = static_cast<int>(parts(plan.depth * (xBytes + plan.tileEights * unit), 1024)) * 1024;
    const int xOvershoot = (plan.depth - 1) * xBytes + xEnd - plan.stageBytes;
    std::size_t rest = kBarrierBytes + std::max({xOvershoot, wOvershoot, 0});
    plan.slots = int8 ? mostSlots(plan.tileOutputs) : 0;
    rest += std::size_t{kBf16UnitBytes} * plan.depth * plan.tileEights * plan.slots;
    const int room = rest < kBlockShared ? static_cast<int>((kBlockShared - rest) / plan.stageBytes) : 0;
    plan.stages = std::min(kMostStages, room);
    plan.sharedBytes = rest + static_cast<std::size_t>(plan.stages) * plan.stageBytes;
    if (plan.stages >= kEnough || plan.depth == 1) break;
  }
  plan.slots = std::min(plan.slots, plan.stages);
  check(plan.stages >= kFewestStages, "a matmul's tile exceeds the shared memory");
}

MatmulPlan planWith(const Tile& tile, const MatmulShape& shape, int sms) {
  MatmulPlan plan;
  plan.warpgroups = tile.warpgroups;
  plan.tileOutputs = tile.outputs;
  const int tileRows = 64 * tile.warpgroups;
  plan.rowTiles = static_cast<int>(parts(shape.rows, tileRows));
  const int pieces = shape.eights / shape.granularity;
  const int fewest = static_cast<int>(parts(pieces, tile.outputs / kOutputsOfUnit / shape.granularity));
  // As many more, and narrower, as cost no further round of blocks.
  const std::int64_t rounds = parts(std::int64_t{plan.rowTiles} * fewest, sms);
  const std::int64_t filling = rounds * sms / plan.rowTiles;
  plan.columnTiles = static_cast<int>(std::clamp<std::int64_t>(filling, fewest, pieces));
  plan.tileEights = static_cast<int>(parts(pieces, plan.columnTiles)) * shape.granularity;
  plan.blocks = static_cast<int>(std::min<std::int64_t>(sms, std::int64_t{plan.rowTiles} * plan.columnTiles));
  plan.boxRows = static_cast<int>(std::min<std::int64_t>(tileRows, parts(shape.rows, 8) * 8));
  divideShared(plan, shape.weightClass);
  return plan;
}

// Nanoseconds that a plan takes, by what bounds it: tensor cores, what L2 gives an SM, or memory.
double timeOf(const Tile& tile, const MatmulPlan& plan, const MatmulShape& shape) {
  constexpr double kL2PerSm = 68, kMemory = 4650;  // bytes a nanosecond
  const bool int8 = shape.weightClass == WeightClass::int8;
  const double w = 1.0 * plan.tileEights * (int8 ? kInt8UnitBytes : kBf16UnitBytes);
  const double x = plan.boxRows * 128.0;
  const double fromMemory = w * plan.blocks / kMemory / plan.rowTiles;
  const double step = std::max({int8 ? tile.int8Step : tile.bf16Step, (w + x) / kL2PerSm, fromMemory});
  const double ending = 1000 + 8 * tile.outputs;
  const auto rounds = parts(std::int64_t{plan.rowTiles} * plan.columnTiles, plan.blocks);
  return static_cast<double>(rounds) * (shape.steps * step + ending);
}

}  // namespace

std::vector<MatmulPlan> possiblePlans(const MatmulShape& shape, int sms) {
  std::vector<MatmulPlan> plans;
  for (const Tile& tile : kTiles) {
    if (suits(tile, shape)) plans.push_back(planWith(tile, shape, sms));
  }
  return plans;
}

MatmulPlan planMatmul(const MatmulShape& shape, int sms) {
  MatmulPlan best;
  double least = std::numeric_limits<double>::infinity();
  for (const Tile& tile : kTiles) {
    if (!suits(tile, shape)) continue;
    const MatmulPlan plan = planWith(tile, shape, sms);
    const double time = timeOf(tile, plan, shape);
    if (time < least) {
      least = time;
      best = plan;
    }
  }
  return best;
}

}  // namespace tandem::cuda
