#include "cpu/matmul/matmul.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "cpu/matmul/kernels.h"
#include "cpu/matmul/packed-weight.h"

namespace tandem::cpu {
namespace {

// A block of rows is small enough for its sums [rows][kPanel] to stay in the L2 cache, and large enough that
// a panel is read from memory few times.
constexpr std::int64_t kRowBlock = 256;
// As much of a panel is used for all rows before the next: two thirds of an L1 cache. Two tiles are done with
// a block before memory has brought another, which must come to that cache while this one still is there.
constexpr std::size_t kBlockBytes = 32 << 10, kBlockBytesOfTwo = 8 << 10;

}  // namespace

struct Workspace::Impl {
  std::vector<bf16> rounded;
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::vector<std::int32_t> corrections;
  std::vector<std::vector<float>> sums;  // a thread's [kRowBlock][kPanel]
};

Workspace::Workspace() : impl_(std::make_unique<Impl>()) {}
Workspace::~Workspace() = default;

const Kernels& kernelsOf(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::amx:
      return kAmxKernels;
    case Isa::avx512:
      return kAvx512Kernels;
    case Isa::avx512Vnni:
      return kAvx512VnniKernels;
    case Isa::avxVnni:
      return kAvxVnniKernels;
    case Isa::avx2:
      return kAvx2Kernels;
    case Isa::portable:
      return kPortableKernels;
  }
#endif
  (void)isa;
  return kPortableKernels;
}

namespace {

template <class T>
void grow(std::vector<T>& vector, std::size_t size) {
  if (vector.size() < size) vector.resize(size);
}

// The activations of a call in the format that the weight's class wants.
struct Operand {
  const bf16* rounded = nullptr;
  QuantizedRows quantized{};
  std::size_t stride = 0;
};

// Whether codes are multiplied as int8: those of int4 are widened, where kernels do that.
bool asInt8(const Kernels& kernels, const PackedWeight& w) {
  return w.weightClass() == WeightClass::int8 || (w.weightClass() == WeightClass::int4 && kernels.widenInt4);
}

Operand prepare(const Kernels& kernels, ThreadTeam& team, Workspace::Impl& work, Tensor x,
                const PackedWeight& w) {
  Operand operand;
  const std::size_t stride = w.paddedInputs();
  const auto inputs = static_cast<std::size_t>(x.cols);
  operand.stride = stride;
  if (w.weightClass() == WeightClass::bf16) {
    grow(work.rounded, x.rows * stride);
    team.split(x.rows, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        bf16* out = work.rounded.data() + row * stride;
        kernels.roundRow(x.floats() + row * inputs, inputs, out);
        std::fill(out + inputs, out + stride, bf16{0});
      }
    });
    operand.rounded = work.rounded.data();
    return operand;
  }
  const std::size_t groups = w.groups();
  const bool int8 = asInt8(kernels, w);
  const std::size_t parts = int8 ? 1 : kParts;
  grow(work.codes, x.rows * stride);
  grow(work.scales, x.rows * groups);
  grow(work.corrections, x.rows * groups * parts);
  // Groups, not rows, are split over the team, so that a single row of a decode step is too.
  team.split(x.rows * static_cast<std::int64_t>(groups), 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::size_t row = index / groups, first = index % groups * kGroup;
      std::int32_t sums[kParts];
      work.scales[index] = kernels.quantizeGroup(x.floats() + row * inputs + first,
                                                 std::min<std::size_t>(kGroup, inputs - first),
                                                 work.codes.data() + row * stride + first, sums);
      if (int8) {
        work.corrections[index] = -kInt8Zero * std::accumulate(sums, sums + kParts, 0);
      } else {
        std::transform(sums, sums + kParts, &work.corrections[index * kParts],
                       [](std::int32_t sum) { return -kInt4Zero * sum; });
      }
    }
  });
  operand.quantized = {work.codes.data(), stride, work.scales.data(), work.corrections.data(), groups, parts};
  return operand;
}

// Blocks of a panel: as much of it as all rows use before the next.
struct PanelBlocks {
  const std::uint8_t* codes;
  std::size_t bytes;         // of the panel
  const std::uint8_t* next;  // the panel that this thread most likely takes next
  std::int64_t tiles;        // that use a block
  std::size_t blockBytes;

  // What tile `tile` prefetches while it multiplies the block at byte `at`. One tile reads its panel as a
  // stream. More tiles read the first time from memory and then from a cache; so that memory does not rest
  // meanwhile, each asks for its share of the following block.
  Ahead ahead(std::size_t at, std::int64_t tile) const {
    constexpr std::size_t kStream = 4096;
    constexpr int kStepLines = kPanel * 4 / 64;
    if (tiles == 1) return {reinterpret_cast<const char*>(codes + at + kStream), kStepLines};
    const int lines = tiles < kStepLines ? kStepLines / 2 : 1;
    if (tile * lines >= kStepLines) return {nullptr, 0};
    const std::size_t following = at + blockBytes;
    const std::uint8_t* from = following < bytes ? codes + following : next;
    return {reinterpret_cast<const char*>(from) + tile * lines * (blockBytes / kStepLines), lines};
  }
};

// sums [rows][kPanel] of one panel for the rows [rowBegin, rowBegin + rows); `next` is the panel after it.
void sumPanel(const Kernels& kernels, const Operand& operand, const PackedWeight& w, std::size_t panel,
              std::size_t next, std::int64_t rowBegin, std::int64_t rows, float* sums) {
  // Tiles of nearly equal height: 8 rows are 4 and 4, since the fewer rows a tile has, the more it waits for
  // the panel. Three would share a step's lines unevenly, where they are asked for.
  std::int64_t count = (rows + kernels.tileRows - 1) / kernels.tileRows;
  if (count == 3 && kernels.readsAhead) count = 4;
  const bool int8 = asInt8(kernels, w), widened = int8 && w.weightClass() == WeightClass::int4;
  const std::size_t inputBytes = widened ? kPanel : w.panelBytes() / w.paddedInputs();
  const std::size_t blockBytes = count == 2 && kernels.readsAhead ? kBlockBytesOfTwo : kBlockBytes;
  const std::size_t blockInputs = blockBytes / inputBytes;
  const PanelBlocks blocks{w.panel(panel), w.panelBytes(), w.panel(next), count, blockBytes};
  const auto tiles = [&](std::size_t input, auto&& body) {
    for (std::int64_t tile = 0; tile < count; ++tile) {
      const std::int64_t row = rows * tile / count, end = rows * (tile + 1) / count;
      body(rowBegin + row, static_cast<int>(end - row), blocks.ahead(input * inputBytes, tile),
           sums + row * kPanel);
    }
  };
  if (w.weightClass() == WeightClass::bf16) {
    const auto* weights = reinterpret_cast<const bf16*>(blocks.codes);
    for (std::size_t k = 0; k < w.paddedInputs(); k += blockInputs) {
      const std::size_t depth = std::min(blockInputs, w.paddedInputs() - k);
      tiles(k, [&](std::int64_t row, int height, Ahead ahead, float* c) {
        kernels.bf16Dot(height, operand.rounded + row * operand.stride + k, operand.stride,
                        weights + k * kPanel, depth, k == 0, ahead, c);
      });
    }
    return;
  }
  alignas(64) std::uint8_t wide[kBlockBytes];
  const IntegerDot dot = int8 ? kernels.int8Dot : kernels.int4Dot;
  const std::size_t blockGroups = blockInputs / kGroup;
  for (std::size_t group = 0; group < w.groups(); group += blockGroups) {
    const std::size_t groups = std::min(blockGroups, w.groups() - group);
    IntegerPanel block = w.integerPanel(panel, group);
    if (widened) {
      kernels.widenInt4(block, groups, wide);
      block.codes = wide;
    }
    tiles(group * kGroup, [&](std::int64_t row, int height, Ahead ahead, float* c) {
      dot(height, operand.quantized.from(row, group), block, groups, group == 0, ahead, c);
    });
  }
}

// Panels that a thread takes at once. A step of few rows waits for memory, and must know what to ask it for
// next: the panel behind is sure, while who takes the one after that changes with every delay. The more often
// threads come back, the less they wait for each other in the end.
std::int64_t panelsTogether(std::int64_t panels, std::int64_t rows, int threads) {
  constexpr std::int64_t kFewRows = 64, kMost = 8, kTurns = 8;
  if (rows > kFewRows) return 1;
  return std::clamp<std::int64_t>(panels / (threads * kTurns), 1, kMost);
}

// Runs every panel over every row block; `finish(panel, row, sums)` takes a row's kPanel sums.
template <class Finish>
void multiply(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const PackedWeight& w,
              Finish finish) {
  if (x.rows == 0) return;
  check(x.cols == w.inputs(), "activations and weight differ in their number of inputs");
  const Kernels& kernels = kernelsOf(isa);
  Workspace::Impl& work = workspace.impl();
  const Operand operand = prepare(kernels, team, work, x, w);
  const std::int64_t rowBlock = std::min(kRowBlock, x.rows);
  grow(work.sums, team.size());
  for (auto& sums : work.sums) grow(sums, rowBlock * kPanel + 16);

  const auto panels = static_cast<std::int64_t>(w.panels());
  const std::int64_t blocks = (x.rows + rowBlock - 1) / rowBlock;
  const std::int64_t together = panelsTogether(panels, x.rows, team.size());
  const std::int64_t items = (panels + together - 1) / together * blocks;
  // Row blocks within a panel follow one another, so that the panel is still in a cache for the next.
  team.forEach(items, [&](std::int64_t item, int thread) {
    const std::int64_t row = item % blocks * rowBlock;
    const std::int64_t rows = std::min(rowBlock, x.rows - row);
    auto address = reinterpret_cast<std::uintptr_t>(work.sums[thread].data());
    auto* sums = reinterpret_cast<float*>((address + 63) / 64 * 64);
    const std::int64_t begin = item / blocks * together, end = std::min(begin + together, panels);
    // The threads take items more or less in turn.
    const std::int64_t after = std::min(item + team.size(), items - 1) / blocks * together;
    for (std::int64_t panel = begin; panel < end; ++panel) {
      sumPanel(kernels, operand, w, panel, panel + 1 < end ? panel + 1 : after, row, rows, sums);
      for (std::int64_t i = 0; i < rows; ++i) finish(panel, row + i, sums + i * kPanel);
    }
  });
}

const PackedWeight& packed(const Weight& w) { return static_cast<const PackedWeight&>(w); }

template <bool kAdd>
void linearInto(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const Weight& w,
                std::span<const float> bias, Tensor y) {
  const PackedWeight& weight = packed(w);
  check(weight.layout() == WeightLayout::stacked, "a gated weight goes through linearSwiGlu");
  check(y.cols == weight.outputs(), "the result and the weight differ in their number of outputs");
  multiply(isa, team, workspace, x, weight, [&](std::int64_t panel, std::int64_t row, const float* sums) {
    const std::int64_t first = panel * kPanel;
    const std::int64_t count = std::min<std::int64_t>(kPanel, y.cols - first);
    float* out = y.floats() + row * y.cols + first;
    const float* add = bias.empty() ? nullptr : bias.data() + first;
    for (std::int64_t i = 0; i < count; ++i) {
      const float value = add ? sums[i] + add[i] : sums[i];
      out[i] = kAdd ? out[i] + value : value;
    }
  });
}

}  // namespace

void linear(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const Weight& w,
            std::span<const float> bias, Tensor y) {
  linearInto<false>(isa, team, workspace, x, w, bias, y);
}

void linearAdd(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const Weight& w,
               std::span<const float> bias, Tensor y) {
  linearInto<true>(isa, team, workspace, x, w, bias, y);
}

void linearSwiGlu(Isa isa, ThreadTeam& team, Workspace& workspace, Tensor x, const Weight& w,
                  std::span<const float> bias, Tensor y) {
  constexpr std::int64_t kHalf = kPanel / 2;
  const PackedWeight& weight = packed(w);
  check(weight.layout() == WeightLayout::gated, "linearSwiGlu needs a gated weight");
  check(2 * y.cols == weight.outputs(), "the result and the weight differ in their number of outputs");
  const Kernels& kernels = kernelsOf(isa);
  multiply(isa, team, workspace, x, weight, [&](std::int64_t panel, std::int64_t row, float* sums) {
    const std::int64_t first = panel * kHalf;
    const std::int64_t count = std::min(kHalf, y.cols - first);
    if (!bias.empty()) {
      for (std::int64_t i = 0; i < count; ++i) {
        sums[i] += bias[first + i];
        sums[kHalf + i] += bias[y.cols + first + i];
      }
    }
    kernels.swiGlu(sums, sums + kHalf, count, y.floats() + row * y.cols + first);
  });
}

}  // namespace tandem::cpu
