#include "cuda/matmul-plan.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "check.h"
#include "cuda/weight-tiles.h"

using namespace tandem;
using namespace tandem::test;

namespace {

struct Named {
  cuda::MatmulShape shape;
  int sms;
  std::string name;
};

std::vector<Named> shapes() {
  std::vector<Named> all;
  for (const WeightClass weightClass : {WeightClass::bf16, WeightClass::int8, WeightClass::int4}) {
    for (const int outputs : {8, 72, 4096, 28672, 128256}) {
      for (const int rows : {1, 8, 63, 64, 65, 257, 300, 1025, 4096}) {
        for (const int granularity : {1, 2}) {
          for (const int sms : {1, 8, 132}) {
            all.push_back({{rows, outputs / 8 / granularity * granularity, granularity, 64, weightClass},
                           sms,
                           std::to_string(rows) + " rows, " + std::to_string(outputs) + " outputs on " +
                               std::to_string(sms)});
            if (all.back().shape.eights == 0) all.pop_back();
          }
        }
      }
    }
  }
  return all;
}

}  // namespace

TEST("cuda matmul plan: tiles of columns cover all outputs once, and none is wider than its registers") {
  for (const auto& [shape, sms, name] : shapes()) {
    for (const cuda::MatmulPlan& plan : cuda::possiblePlans(shape, sms)) {
      int widest = 0;
      for (int tile = 0; tile < plan.columnTiles; ++tile) {
        const int first = cuda::firstEightOf(tile, plan.columnTiles, shape.eights, shape.granularity);
        const int end = cuda::firstEightOf(tile + 1, plan.columnTiles, shape.eights, shape.granularity);
        isTrue(first < end && first % shape.granularity == 0, name + ": a tile is empty or cuts a pair");
        widest = std::max(widest, end - first);
      }
      test::equal(cuda::firstEightOf(0, plan.columnTiles, shape.eights, shape.granularity), 0, name);
      test::equal(cuda::firstEightOf(plan.columnTiles, plan.columnTiles, shape.eights, shape.granularity),
                  shape.eights, name);
      test::equal(widest, plan.tileEights, name);
      isTrue(widest <= plan.tile.mostEights(), name + ": a tile is too wide");
    }
  }
}

TEST("cuda matmul plan: tiles of rows cover all rows once, and their boxes lie within x but for two eights") {
  for (const auto& [shape, sms, name] : shapes()) {
    for (const cuda::MatmulPlan& plan : cuda::possiblePlans(shape, sms)) {
      const auto firstRow = [&](int tile) { return cuda::firstRowOf(tile, plan.boxRows, plan.tallTiles); };
      test::equal(firstRow(0), 0, name);
      isTrue(plan.boxRows % 8 == 0 && plan.boxRows <= plan.tile.rows, name + ": rows of a box");
      for (int tile = 0; tile < plan.rowTiles; ++tile) {
        const int rows = firstRow(tile + 1) - firstRow(tile);
        isTrue(rows > 0 && rows % 8 == 0 && rows <= plan.boxRows, name + ": rows of a tile");
        isTrue(firstRow(tile) < shape.rows, name + ": a tile is empty");
        isTrue(firstRow(tile) + plan.boxRows < shape.rows + 16, name + ": a box lies beyond x");
      }
      isTrue(firstRow(plan.rowTiles) >= shape.rows, name + ": rows are left out");
    }
  }
}

TEST("cuda matmul plan: what is read fits the shared memory") {
  for (const auto& [shape, sms, name] : shapes()) {
    for (const cuda::MatmulPlan& plan : cuda::possiblePlans(shape, sms)) {
      isTrue(plan.sharedBytes <= std::size_t{227} << 10, name + ": too much shared memory");
      isTrue(plan.stages >= cuda::kFewestStages && plan.stages <= cuda::kMostStages, name + ": stages");
      test::equal(plan.stageBytes % 1024, 0, name);
      const int depth = plan.tile.depth(shape.weightClass), last = (plan.stages - 1) * plan.stageBytes;
      const int xEnd = last + (depth - 1) * plan.boxRows * 128 + plan.tile.rows * 128;
      isTrue(xEnd + cuda::kBarrierBytes <= plan.sharedBytes, name + ": x is read into the barriers");
      // Codes are read as units, bf16 as whole operands.
      const bool codes = shape.weightClass != WeightClass::bf16;
      const int unit = cuda::unitBytesOf(shape.weightClass);
      const int wEnd = last + depth * plan.boxRows * 128 + (depth - 1) * plan.tileEights * unit +
                       (codes ? plan.tileEights : plan.tile.mostEights()) * unit;
      isTrue(wEnd + cuda::kBarrierBytes <= plan.sharedBytes, name + ": W is read into the barriers");
      if (plan.tile.halfSm()) {
        isTrue(plan.sharedBytes <= std::size_t{113} << 10, name + ": two blocks do not fit an SM");
      }
    }
  }
}

TEST("cuda matmul plan: a small matrix keeps all SMs busy") {
  for (const int sms : {8, 64, 132}) {
    const cuda::MatmulPlan plan = cuda::planMatmul({1, 512, 1, 64, WeightClass::bf16}, sms);
    test::equal(plan.blocks, sms, "blocks");
    test::equal(plan.tileEights, (512 + plan.columnTiles - 1) / plan.columnTiles, "eights");
  }
}

// Of a layer with Llama-3.1-8B's shape, in nanoseconds.
static double foreseenLayer(int rows, WeightClass weightClass, int sms) {
  double sum = 0;
  for (const auto& [outputs, inputs, granularity] :
       {std::tuple{6144, 4096, 1}, {4096, 4096, 1}, {28672, 4096, 2}, {4096, 14336, 1}}) {
    const cuda::MatmulShape shape{rows, outputs / 8, granularity, inputs / 64, weightClass};
    sum += cuda::foreseenTime(cuda::planMatmul(shape, sms), shape, sms);
  }
  return sum;
}

TEST("cuda matmul plan: no row more costs a layer more than a third of its time, on any share of the SMs") {
  for (const WeightClass weightClass : {WeightClass::bf16, WeightClass::int8, WeightClass::int4}) {
    for (const int sms : {8, 32, 44, 68, 88, 132}) {
      const std::string lane = " on " + std::to_string(sms) + " SMs";
      double before = foreseenLayer(cuda::kFewRows + 1, weightClass, sms);
      for (int rows = cuda::kFewRows + 9; rows <= 1025; rows += 8) {
        const double now = foreseenLayer(rows, weightClass, sms);
        isTrue(now <= 1.34 * before, std::to_string(rows) + " rows are a cliff" + lane);
        isTrue(now >= 0.999 * before, std::to_string(rows) + " rows are foreseen to take less" + lane);
        before = now;
      }
    }
  }
}

TEST("cuda matmul plan: a chunk of 256 tokens takes little longer with some streams in its step") {
  for (const WeightClass weightClass : {WeightClass::bf16, WeightClass::int8}) {
    isTrue(foreseenLayer(272, weightClass, 132) <= 1.2 * foreseenLayer(256, weightClass, 132), "16 streams");
  }
}
