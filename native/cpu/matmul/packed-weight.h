#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/ops.h"
#include "cpu/matmul/kernels.h"

namespace tandem::cpu {

// Memory on huge pages: a panel's stream crosses a 4 KB border every 64 lines otherwise, and the TLB feels
// it.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t bytes);
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::size_t size_ = 0;
};

// Outputs in panels of kPanel, each contiguous in the order the kernels read it:
//   bf16  [inputs / 2][kPanel][2]
//   int8  [inputs / 4][kPanel][4], code + 128
//   int4  [inputs / 8][kPanel][4], code + 8: inputs 0..3 of each eight in the low halves, 4..7 in the high
//   ones
// and for integers scales [groups][kPanel], for int4 factors [groups][kPanel][kParts] too: a weight is code *
// scale, or code * factor * scale. A factor is -15..15, so that code * factor is a code of int8. The same
// bytes serve every instruction set: 16 outputs are one AVX-512 vector, two AVX2 ones, and one column block
// of an AMX tile. A `gated` panel holds kPanel / 2 gate outputs and the same up outputs. Inputs are padded
// with zeros to kGroup (bf16: to 2), outputs to kPanel.
class PackedWeight final : public Weight {
 public:
  std::int64_t outputs() const override { return outputs_; }
  std::int64_t inputs() const override { return inputs_; }
  std::size_t bytes() const override { return codes_.size() + scales_.size() + factors_.size(); }

  WeightClass weightClass() const { return class_; }
  WeightLayout layout() const { return layout_; }
  std::size_t panels() const { return panels_; }
  std::size_t paddedInputs() const { return paddedInputs_; }
  std::size_t groups() const { return paddedInputs_ / kGroup; }
  std::size_t panelBytes() const { return panelBytes_; }
  const std::uint8_t* panel(std::size_t index) const {
    return reinterpret_cast<const std::uint8_t*>(codes_.data()) + index * panelBytes_;
  }
  // From a group on.
  IntegerPanel integerPanel(std::size_t index, std::size_t group) const {
    const IntegerPanel all{panel(0), reinterpret_cast<const float*>(scales_.data()),
                           reinterpret_cast<const std::int8_t*>(factors_.data())};
    return all.from(index * groups() + group, 0, panelBytes_ / groups());
  }

 private:
  friend std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix>, WeightLayout, WeightClass,
                                            ThreadTeam&);

  WeightClass class_ = WeightClass::bf16;
  WeightLayout layout_ = WeightLayout::stacked;
  std::int64_t outputs_ = 0;
  std::int64_t inputs_ = 0;
  std::size_t paddedInputs_ = 0;
  std::size_t panels_ = 0;
  std::size_t panelBytes_ = 0;
  AlignedBytes codes_;
  AlignedBytes scales_;
  AlignedBytes factors_;
};

}  // namespace tandem::cpu
