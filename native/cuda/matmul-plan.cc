#include "cuda/matmul-plan.h"

#include <algorithm>

#include "core/error.h"
#include "cuda/weight-tiles.h"

namespace tandem::cuda {
namespace {

std::int64_t parts(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

struct Tile {
  int warpgroups, outputs;
};
constexpr Tile kTiles[] = {{1, 32}, {1, 64}, {1, 256}, {2, 128}, {2, 256}};

bool suits(const Tile& tile, const MatmulShape& shape) {
  // Warps that expand codes leave no registers for the widest.
  if (tile.warpgroups == 2)
    return shape.rows > 64 && (tile.outputs < 256 || shape.weightClass == WeightClass::bf16);
  return true;
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
  return plan;
}

// Cycles that a plan takes, by what bounds it: tensor cores, or what an SM is given by L2 and memory. The
// constants are an H200's, roughly; they only choose.
double cyclesOf(const MatmulPlan& plan, const MatmulShape& shape, int sms) {
  constexpr double kTensorEfficiency = 0.75, kMultiplies = 2048, kBytesPerCycle = 32, kOfMemory = 21;
  constexpr double kBegin = 1500;  // of a tile: its pipeline fills, its sums are stored
  const double rounds =
      static_cast<double>(parts(std::int64_t{plan.rowTiles} * plan.columnTiles, plan.blocks));
  const double unitBytes = shape.weightClass == WeightClass::bf16 ? kBf16UnitBytes : kInt8UnitBytes;
  const double tensor = 64.0 * plan.warpgroups * plan.tileOutputs * 64 / kMultiplies / kTensorEfficiency;
  const double loads = (plan.tileEights * unitBytes + plan.boxRows * 128.0) / kBytesPerCycle;
  const double computed = rounds * (shape.steps * std::max(tensor, loads) + kBegin);
  const double memory = unitBytes * shape.eights * shape.steps / (kOfMemory * std::min(sms, 132));
  return std::max(computed, memory + kBegin);
}

constexpr std::size_t kBlockShared = std::size_t{227} << 10;

void divideShared(MatmulPlan& plan, WeightClass weightClass) {
  const bool int8 = weightClass == WeightClass::int8;
  const int unit = int8 ? kInt8UnitBytes : kBf16UnitBytes, xBytes = plan.boxRows * 128;
  const int xEnd = 64 * plan.warpgroups * 128;
  const int wOvershoot = (plan.tileOutputs / kOutputsOfUnit - plan.tileEights) * kBf16UnitBytes;
  constexpr int kEnough = 4;
  for (plan.depth = std::clamp(128 / plan.tileOutputs, 1, kMostDepth);; plan.depth /= 2) {
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

}  // namespace

std::vector<MatmulPlan> possiblePlans(const MatmulShape& shape, int sms) {
  std::vector<MatmulPlan> plans;
  for (const Tile& tile : kTiles) {
    if (!suits(tile, shape)) continue;
    MatmulPlan plan = planWith(tile, shape, sms);
    divideShared(plan, shape.weightClass);
    plans.push_back(plan);
  }
  return plans;
}

MatmulPlan planMatmul(const MatmulShape& shape, int sms) {
  const std::vector<MatmulPlan> plans = possiblePlans(shape, sms);
  return *std::min_element(plans.begin(), plans.end(), [&](const MatmulPlan& a, const MatmulPlan& b) {
    return cyclesOf(a, shape, sms) < cyclesOf(b, shape, sms);
  });
}

}  // namespace tandem::cuda
