#include "cpu/matmul/packed-weight.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/error.h"
#include "core/half.h"
#include "cpu/matmul/pack-group.h"

namespace tandem::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t roundUp(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// The matrices below one another, row by row as float32.
class Rows {
 public:
  Rows(std::span<const CheckpointMatrix> parts, WeightLayout layout) : parts_(parts), layout_(layout) {}

  // Reads packed row `row` of panel `panel`; zeros beyond the last row.
  void read(std::size_t panel, int row, std::span<float> out) const {
    if (layout_ == WeightLayout::gated) {
      constexpr int kHalf = kPanel / 2;
      const auto source = static_cast<std::int64_t>(panel) * kHalf + row % kHalf;
      readRow(parts_[row / kHalf], source, out);
      return;
    }
    auto source = static_cast<std::int64_t>(panel) * kPanel + row;
    for (const CheckpointMatrix& part : parts_) {
      if (source < part.rows) return readRow(part, source, out);
      source -= part.rows;
    }
    std::fill(out.begin(), out.end(), 0.0f);
  }

 private:
  static void readRow(const CheckpointMatrix& part, std::int64_t row, std::span<float> out) {
    if (row >= part.rows) {
      std::fill(out.begin(), out.end(), 0.0f);
      return;
    }
    readCheckpointRow(part, row, out.first(part.cols));
    std::fill(out.begin() + part.cols, out.end(), 0.0f);
  }

  std::span<const CheckpointMatrix> parts_;
  WeightLayout layout_;
};

void packBf16Row(std::span<const float> row, int column, std::uint8_t* panel) {
  auto* out = reinterpret_cast<bf16*>(panel);
  for (std::size_t k = 0; k < row.size(); ++k) out[(k / 2 * kPanel + column) * 2 + k % 2] = toBf16(row[k]);
}

void packInt8Row(const PackGroup& pack, std::span<const float> row, int column, std::uint8_t* panel,
                 float* scales) {
  std::uint8_t codes[kGroup];
  for (std::size_t begin = 0; begin < row.size(); begin += kGroup) {
    scales[begin / kGroup * kPanel + column] = pack.int8(row.data() + begin, codes);
    for (std::size_t k = 0; k < kGroup; k += 4) {
      std::copy_n(codes + k, 4, panel + ((begin + k) / 4 * kPanel + column) * 4);
    }
  }
}

void packInt4Row(const PackGroup& pack, std::span<const float> row, int column, std::uint8_t* panel,
                 float* scales, std::int8_t* factors) {
  std::uint8_t codes[kGroup];
  for (std::size_t begin = 0; begin < row.size(); begin += kGroup) {
    const std::size_t group = begin / kGroup * kPanel + column;
    scales[group] = pack.int4(row.data() + begin, factors + group * kParts, codes);
    for (std::size_t k = 0; k < kGroup; k += 8) {
      std::uint8_t* bytes = panel + ((begin + k) / 8 * kPanel + column) * 4;
      for (int i = 0; i < 4; ++i) bytes[i] = static_cast<std::uint8_t>(codes[k + i] | codes[k + i + 4] << 4);
    }
  }
}

std::size_t bitsOf(WeightClass weightClass) {
  switch (weightClass) {
    case WeightClass::bf16:
      return 16;
    case WeightClass::int8:
      return 8;
    case WeightClass::int4:
      return 4;
  }
  return 0;
}

}  // namespace

void AlignedBytes::Free::operator()(std::byte* data) const { std::free(data); }

AlignedBytes::AlignedBytes(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const std::size_t rounded = roundUp(bytes, alignment);
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded)));
  if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (alignment == kHugePage) madvise(data_.get(), rounded, MADV_HUGEPAGE);
#endif
}

std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix> parts, WeightLayout layout,
                                   WeightClass weightClass, ThreadTeam& team) {
  check(!parts.empty() && parts[0].cols > 0, "a weight needs at least one matrix with inputs");
  std::int64_t outputs = 0;
  for (const CheckpointMatrix& part : parts) {
    check(part.cols == parts[0].cols, "matrices packed as one weight must have equal inputs");
    outputs += part.rows;
  }
  if (layout == WeightLayout::gated) {
    check(parts.size() == 2 && parts[0].rows == parts[1].rows,
          "a gated weight is a gate and an up of one shape");
  }

  auto weight = std::make_unique<PackedWeight>();
  weight->class_ = weightClass;
  weight->layout_ = layout;
  weight->outputs_ = outputs;
  weight->inputs_ = parts[0].cols;
  weight->paddedInputs_ = roundUp(parts[0].cols, weightClass == WeightClass::bf16 ? 2 : kGroup);
  const std::size_t perPanel = layout == WeightLayout::gated ? kPanel / 2 : kPanel;
  const std::size_t distinct = layout == WeightLayout::gated ? parts[0].rows : outputs;
  weight->panels_ = (distinct + perPanel - 1) / perPanel;
  weight->panelBytes_ = weight->paddedInputs_ * kPanel * bitsOf(weightClass) / 8;
  weight->codes_ = AlignedBytes(weight->panels_ * weight->panelBytes_);
  if (weightClass != WeightClass::bf16) {
    weight->scales_ = AlignedBytes(weight->panels_ * weight->groups() * kPanel * sizeof(float));
  }
  if (weightClass == WeightClass::int4) {
    weight->factors_ = AlignedBytes(weight->panels_ * weight->groups() * kPanel * kParts);
  }

  const PackGroup& pack = packGroupOf(availableIsas().front());
  const Rows rows(parts, layout);
  std::vector<std::vector<float>> buffers(team.size(), std::vector<float>(weight->paddedInputs_));
  team.forEach(static_cast<std::int64_t>(weight->panels_), [&](std::int64_t panel, int thread) {
    const std::span<float> row = buffers[thread];
    auto* codes = reinterpret_cast<std::uint8_t*>(weight->codes_.data()) + panel * weight->panelBytes_;
    const std::size_t group = panel * weight->groups() * kPanel;
    auto* scales = reinterpret_cast<float*>(weight->scales_.data()) + group;
    auto* factors = reinterpret_cast<std::int8_t*>(weight->factors_.data()) + group * kParts;
    for (int column = 0; column < kPanel; ++column) {
      rows.read(panel, column, row);
      if (weightClass == WeightClass::bf16) packBf16Row(row, column, codes);
      if (weightClass == WeightClass::int8) packInt8Row(pack, row, column, codes, scales);
      if (weightClass == WeightClass::int4) packInt4Row(pack, row, column, codes, scales, factors);
    }
  });
  return weight;
}

}  // namespace tandem::cpu
