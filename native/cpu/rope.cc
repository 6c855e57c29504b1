#include "cpu/rope.h"

#include <algorithm>
#include <cmath>

namespace tandem::cpu {
namespace {

bool sameRows(const EntryRows& a, const EntryRows& b) {
  return a.count == b.count && a.position + a.dropped == b.position + b.dropped;
}

}  // namespace

void RopeAngles::prepare(ThreadTeam& team, std::span<const EntryRows> entries, const RopeTable& rope) {
  if (rope.attentionFactor == rope_.attentionFactor && rope.inverseFrequencies == rope_.inverseFrequencies &&
      std::equal(entries.begin(), entries.end(), entries_.begin(), entries_.end(), sameRows)) {
    return;
  }
  rope_ = rope;
  entries_.assign(entries.begin(), entries.end());
  starts_.clear();
  std::int64_t rows = 0;
  for (const EntryRows& entry : entries) {
    starts_.push_back(rows);
    rows += entry.count;
  }
  const std::size_t width = rope.inverseFrequencies.size();
  table_.resize(rows * 2 * width);
  const double factor = rope.attentionFactor;
  team.split(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    std::size_t entry = std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin() - 1;
    for (std::int64_t row = begin; row < end; ++row) {
      while (row >= starts_[entry] + entries_[entry].count) ++entry;
      const auto position =
          static_cast<double>(entries_[entry].dropped + entries_[entry].position + row - starts_[entry]);
      float* cosines = table_.data() + row * 2 * width;
      for (std::size_t i = 0; i < width; ++i) {
        const double angle = position * rope_.inverseFrequencies[i];
        cosines[i] = static_cast<float>(std::cos(angle) * factor);
        cosines[width + i] = static_cast<float>(std::sin(angle) * factor);
      }
    }
  });
}

void rotateHead(std::span<float> head, std::span<const float> cosines, std::span<const float> sines) {
  const std::size_t half = cosines.size();
  float* first = head.data();
  float* second = first + half;
  for (std::size_t i = 0; i < half; ++i) {
    const float a = first[i], b = second[i];
    first[i] = a * cosines[i] - b * sines[i];
    second[i] = b * cosines[i] + a * sines[i];
  }
}

}  // namespace tandem::cpu
