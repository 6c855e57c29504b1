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
  if (shape.rows > kFewRows) {
    std::vector<Candidate> all;
    for (const int rows : kManyRows) all.push_back({{2, 2, rows}});
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
  const auto rowEights = static_cast<int>(parts(shape.rows, 8));
  plan.rowTiles = static_cast<int>(parts(shape.rows, plan.tile.rows));
  plan.boxRows = static_cast<int>(parts(rowEights, plan.rowTiles)) * 8;
  plan.tallTiles = rowEights - plan.rowTiles * (plan.boxRows / 8 - 1);
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
  divideShared(plan, shape.weightClass);
  return plan;
}

// What a step of a plan is bound by, in nanoseconds and bytes. All constants were fitted to an H200; they
// choose among tiles, no more.
struct Step {
  const MatmulPlan& plan;
  bool codes;
  double blocksPerSm;
  double w, x;  // bytes that a block reads

  Step(const MatmulPlan& plan, WeightClass weightClass, int sms)
      : plan(plan),
        codes(weightClass != WeightClass::bf16),
        blocksPerSm(std::max(1.0, 1.0 * plan.blocks / sms)),
        w(1.0 * plan.tileEights * unitBytesOf(weightClass)),
        x(plan.boxRows * 128.0) {}

  // Between the products of one warp, which other warpgroups delay.
  double waiting() const {
    const double others = blocksPerSm * plan.tile.warpgroups - 1;
    return codes ? plan.tile.eights * (23 + 12 * others) : 12 * others;
  }
  // Tiles of rows share what they read of W.
  double fromMemory() const { return w * plan.blocks / 4650 / plan.rowTiles; }

  // What takes longest: one warp's chain of instructions and products, tensor cores, what L2 gives an SM, or
  // memory. Fitted to the times of all tiles, of which the choice by them was half a percent slower than the
  // fastest, in the mean.
  double ofFewRows() const {
    const MatmulTile& tile = plan.tile;
    const double chain = waiting() + (codes ? 73 + 0.31 * tile.rows : 117 + 0.6 * tile.rows);
    const double tensor = 1.2 * blocksPerSm * tile.warpgroups * std::max(35, tile.rows);
    return std::max({chain, tensor, blocksPerSm * (w + x) / 46, fromMemory()});
  }
  // Products are as slow as the chip's power allows, and what lies between them is not hidden. Several blocks
  // want the same of W and x at about the same time, which L2 gives them at once: as many bytes as below were
  // seen. Off by 3% in the mean from what the tiles took that were chosen for 256 to 4096 rows
  // (docs/results/gpu/gpu-report.json).
  double ofMoreRows() const {
    const double between = waiting() + (codes ? 126 : 58);
    const double products = (codes ? 1.21 : 1.48) * blocksPerSm * plan.tile.warpgroups * plan.tile.rows;
    return std::max({between + products, blocksPerSm * (w + x) / 92, fromMemory()});
  }
};

}  // namespace

std::vector<MatmulPlan> possiblePlans(const MatmulShape& shape, int sms) {
  std::vector<MatmulPlan> plans;
  for (const Candidate& candidate : candidates(shape)) plans.push_back(planWith(candidate, shape, sms));
  return plans;
}

double foreseenTime(const MatmulPlan& plan, const MatmulShape& shape, int sms) {
  const Step step(plan, shape.weightClass, sms);
  const double ofStep = shape.rows > kFewRows ? step.ofMoreRows() : step.ofFewRows();
  const double ending = 1950 + 4.4 * plan.tile.rows;
  const auto rounds = parts(std::int64_t{plan.rowTiles} * plan.columnTiles, plan.blocks);
  return static_cast<double>(rounds) * (shape.steps * ofStep + ending);
}

MatmulPlan planMatmul(const MatmulShape& shape, int sms) {
  MatmulPlan best;
  double least = std::numeric_limits<double>::infinity();
  for (const MatmulPlan& plan : possiblePlans(shape, sms)) {
    const double time = foreseenTime(plan, shape, sms);
    if (time < least) {
      least = time;
      best = plan;
    }
  }
  return best;
}

}  // namespace tandem::cuda
