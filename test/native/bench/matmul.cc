// The matmuls of Llama-3.2-1B's shape: Gop/s (a multiplication and an addition are two) and percent of the
// registers' peak, GB/s of packed weights, and the same per CPU second, since the machine may be shared.
//
//   bench-matmul [threads] [isa] [class] [shape]
//
// A shape's weights are as many layers as exceed the caches together, taken in turn: decode reads them from
// memory, as it does in a model.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "core/bf16.h"
#include "core/thread-team.h"
#include "cpu/cores.h"
#include "cpu/matmul/matmul.h"
#include "peak.h"
#include "timing.h"

using namespace tandem;

namespace {

struct Shape {
  const char* name;
  std::int64_t outputs, inputs;
  WeightLayout layout = WeightLayout::stacked;
};

constexpr Shape kShapes[] = {{"qkv", 3072, 2048},
                             {"o", 2048, 2048},
                             {"gate-up", 16384, 2048, WeightLayout::gated},
                             {"down", 2048, 8192},
                             {"head", 128256, 2048}};

struct Class {
  const char* name;
  WeightClass value;
};

constexpr Class kClasses[] = {
    {"bf16", WeightClass::bf16}, {"int8", WeightClass::int8}, {"int4", WeightClass::int4}};

constexpr std::size_t kBeyondCaches = std::size_t{256} << 20;

// `layers` weights from one random matrix of 1024 rows, repeated: drawing all would take longer than the
// measurement.
std::vector<std::unique_ptr<Weight>> packLayers(const Shape& shape, WeightClass weightClass,
                                                ThreadTeam& team) {
  constexpr std::int64_t kRows = 1024;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<bf16> values(kRows * shape.inputs);
  for (bf16& value : values) value = toBf16(normal(random));
  const auto* data = reinterpret_cast<const std::byte*>(values.data());
  std::vector<CheckpointMatrix> parts;
  std::vector<bf16> half;
  if (shape.layout == WeightLayout::gated) {
    for (std::int64_t row = 0; row < shape.outputs / 2; row += kRows)
      half.insert(half.end(), values.begin(), values.end());
    const auto* gate = reinterpret_cast<const std::byte*>(half.data());
    parts.assign(2, {gate, CheckpointType::bf16, shape.outputs / 2, shape.inputs});
  } else {
    for (std::int64_t left = shape.outputs; left > 0; left -= kRows) {
      parts.push_back({data, CheckpointType::bf16, std::min(left, kRows), shape.inputs});
    }
  }
  std::vector<std::unique_ptr<Weight>> layers;
  for (std::size_t bytes = 0; bytes < kBeyondCaches; bytes += layers.back()->bytes()) {
    layers.push_back(cpu::packWeight(parts, shape.layout, weightClass, team));
  }
  return layers;
}

void run(const Shape& shape, const Class& weightClass, Isa isa, ThreadTeam& team, double peak) {
  const auto layers = packLayers(shape, weightClass.value, team);
  const bool gated = shape.layout == WeightLayout::gated;
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const std::int64_t rows : {1, 8, 16, 512}) {
    std::vector<float> x(rows * shape.inputs), y(rows * shape.outputs);
    for (float& value : x) value = normal(random);
    cpu::Workspace workspace;
    std::size_t turn = 0;
    const bench::Timing time = bench::measure(rows == 512 ? 0.4 : 0.2, [&] {
      const Weight& weight = *layers[turn++ % layers.size()];
      const Tensor input{x.data(), rows, shape.inputs};
      if (gated) {
        cpu::linearSwiGlu(isa, team, workspace, input, weight, {}, {y.data(), rows, shape.outputs / 2});
      } else {
        cpu::linear(isa, team, workspace, input, weight, {}, {y.data(), rows, shape.outputs});
      }
    });
    const double operations = 2.0 * static_cast<double>(rows * shape.outputs * shape.inputs);
    const double bytes = static_cast<double>(layers[0]->bytes());
    std::printf("%s %-8s %4ld rows: %10.1f us  %7.1f Gop/s", weightClass.name, shape.name,
                static_cast<long>(rows), 1e6 * time.wall, 1e-9 * operations / time.wall);
    if (peak > 0) std::printf(" (%4.1f%% of peak)", 100 * operations / time.wall / peak);
    std::printf("  %6.1f GB/s  per CPU second %7.1f Gop %6.1f GB\n", 1e-9 * bytes / time.wall,
                1e-9 * operations / time.cpu, 1e-9 * bytes / time.cpu);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto& cores = cpu::allowedCores();
  const int threads = argc > 1 ? std::clamp(std::atoi(argv[1]), 1, static_cast<int>(cores.size()))
                               : static_cast<int>(cores.size());
  const Isa isa = argc > 2 ? parseIsa(argv[2]) : availableIsas().front();
  const auto chosen = [&](int argument, const char* name) {
    return argc <= argument || std::string_view(argv[argument]) == "all" ||
           std::string_view(argv[argument]) == name;
  };
  ThreadTeam team(threads);
  team.pin(std::span(cores).first(threads));
  for (const Class& weightClass : kClasses) {
    if (!chosen(3, weightClass.name)) continue;
    const double peak = threads * bench::peakOf(isa, weightClass.value);
    std::printf("%s, %s, %d threads, peak out of registers %.0f Gop/s\n", isaName(isa), weightClass.name,
                threads, 1e-9 * peak);
    for (const Shape& shape : kShapes) {
      if (chosen(4, shape.name)) run(shape, weightClass, isa, team, peak);
    }
  }
}
