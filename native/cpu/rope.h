#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "core/thread-team.h"

namespace tandem::cpu {

// cos and sin of every row of a step, made once and used by all heads and layers. The angles are float64: at
// position 10^6 a float32 angle would be off by 0.03.
class RopeAngles {
 public:
  // Makes the table of these entries' positions, unless it is the one at hand.
  void prepare(ThreadTeam& team, std::span<const EntryRows> entries, const RopeTable& rope);

  // [headDim / 2] of the entry's row `index`, the attention factor included
  std::span<const float> cosines(std::size_t entry, std::int64_t index) const { return row(entry, index, 0); }
  std::span<const float> sines(std::size_t entry, std::int64_t index) const { return row(entry, index, 1); }

 private:
  std::span<const float> row(std::size_t entry, std::int64_t index, int part) const {
    const std::size_t width = rope_.inverseFrequencies.size();
    return {table_.data() + ((starts_[entry] + index) * 2 + part) * width, width};
  }

  RopeTable rope_;
  std::vector<EntryRows> entries_;
  std::vector<std::int64_t> starts_;  // of each entry's rows in the table
  std::vector<float> table_;          // [rows, 2, headDim / 2]
};

// Rotates the channel pairs (i, i + headDim / 2) of one head in place.
void rotateHead(std::span<float> head, std::span<const float> cosines, std::span<const float> sines);

}  // namespace tandem::cpu
