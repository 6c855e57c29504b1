#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/bf16.h"
#include "core/error.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// Host memory through which rows of activations go up, so that nobody waits for their copies. There is one
// for each of the two steps that a lane may have: what was added for a step stays until the next but one.
class StagedRows {
 public:
  // The most rows of a step.
  StagedRows(std::int64_t rows, std::int64_t cols)
      : halves_{half(rows * cols), half(rows * cols)}, room_(static_cast<std::size_t>(rows * cols)) {}

  // A step begins.
  void clear() {
    used_ = 0;
    current_ ^= 1;
  }

  // Room for so many elements.
  std::span<bf16> add(std::size_t count) {
    if (count > room_ - used_) throw Error("a step writes more rows than it may");
    const std::span<bf16> room{halves_[current_].as<bf16>() + used_, count};
    used_ += count;
    return room;
  }

 private:
  static PinnedMemory half(std::int64_t elements) {
    return {static_cast<std::size_t>(elements) * sizeof(bf16), "rows that go up to the device"};
  }

  std::array<PinnedMemory, 2> halves_;
  std::size_t room_;
  std::size_t used_ = 0;
  std::size_t current_ = 0;
};

}  // namespace tandem::cuda
