#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"

namespace tandem::cpu {

// Cosines and sines [headDim / 2] that turn a query back by whole pages: R(-n) R(p) = R(p - n), so keys stay
// as they lie, whatever of the pages between them and the query is absent.
struct Turn {
  std::span<const float> cosines;
  std::span<const float> sines;
  // The same as whole numbers, of which 2^14 is 1: a head's number may grow by the root of two as it is
  // turned. Null for a turn by another memory than the table's.
  const std::int16_t* cosineNumbers = nullptr;
  const std::int16_t* sineNumbers = nullptr;
};

inline constexpr float kTurnUnit = 1 << 14;

// The turns by 0, 1, ... pages. The angles are float64, since 10^5 pages are 10^6 radians and more.
class PageTurns {
 public:
  // Those by fewer than `count` pages, unless they are at hand.
  void prepare(const RopeTable& rope, std::int64_t count) {
    if (rope.inverseFrequencies != frequencies_) {
      frequencies_ = rope.inverseFrequencies;
      table_.clear();
    }
    const std::size_t width = 2 * frequencies_.size();
    const auto have = static_cast<std::int64_t>(table_.size() / width);
    if (have >= count) return;
    table_.resize(static_cast<std::size_t>(count) * width);
    for (std::int64_t pages = have; pages < count; ++pages) write(pages, table_.data() + pages * width);
    numbers_.resize(table_.size());
    std::transform(table_.begin() + static_cast<std::ptrdiff_t>(have * width), table_.end(),
                   numbers_.begin() + static_cast<std::ptrdiff_t>(have * width),
                   [](float x) { return static_cast<std::int16_t>(std::lrint(x * kTurnUnit)); });
  }

  Turn of(std::int64_t pages) const {
    const std::size_t first = static_cast<std::size_t>(pages) * 2 * frequencies_.size();
    Turn turn = at(table_.data() + first);
    turn.cosineNumbers = numbers_.data() + first;
    turn.sineNumbers = turn.cosineNumbers + frequencies_.size();
    return turn;
  }

  // By any number of pages, in the memory given: [headDim] floats.
  Turn of(std::int64_t pages, float* memory) const {
    write(pages, memory);
    return at(memory);
  }

 private:
  Turn at(const float* row) const {
    return {{row, frequencies_.size()}, {row + frequencies_.size(), frequencies_.size()}};
  }

  void write(std::int64_t pages, float* row) const {
    for (std::size_t i = 0; i < frequencies_.size(); ++i) {
      const double angle = -static_cast<double>(pages * kPageTokens) * frequencies_[i];
      row[i] = static_cast<float>(std::cos(angle));
      row[frequencies_.size() + i] = static_cast<float>(std::sin(angle));
    }
  }

  std::vector<float> frequencies_;
  std::vector<float> table_;           // [pages, 2, headDim / 2]
  std::vector<std::int16_t> numbers_;  // the same
};

}  // namespace tandem::cpu
