#include "cuda/sight-plan.h"

#include <algorithm>
#include <bit>

namespace tandem::cuda {

void SightPlan::layOut(const StepPlan& plan, int layers, std::span<const QueryTile> tiles,
                       std::span<const Single> singles) {
  rows_.clear();
  words_.clear();
  tiles_.clear();
  contexts_.clear();
  mostPages_ = 0;
  if (plan.sight.empty()) return;
  for (int layer = 0; layer < layers; ++layer) {
    missing_.clear();
    for (std::size_t i = 0; i < plan.entries.size(); ++i) {
      missing_.push_back(addRow(plan.entries[i], plan.sight[i], layer));
    }
    for (QueryTile tile : tiles) {
      tile.position -= missing_[static_cast<std::size_t>(tile.sequence)];
      tiles_.push_back(tile);
    }
    for (const Single& single : singles) {
      contexts_.push_back(single.context - missing_[static_cast<std::size_t>(single.entry)]);
    }
  }
}

// Returns how many tokens before the entry's it does not see.
std::int32_t SightPlan::addRow(const EntryRows& entry, const SeenPages& sight, int layer) {
  const auto pages =
      static_cast<std::int32_t>((entry.position + entry.count + kPageTokens - 1) / kPageTokens);
  rows_.push_back({pages, static_cast<std::int32_t>(words_.size())});
  mostPages_ = std::max(mostPages_, pages);
  std::int32_t seen = 0;
  for (std::int32_t first = 0; first < pages; first += kWordPages) {
    SeenWord word{0, static_cast<std::uint32_t>(seen)};
    for (std::int32_t page = first; page < std::min(pages, first + kWordPages); ++page) {
      if (page >= sight.pages || sight.isSeenIn(layer, page)) word.bits |= 1u << (page - first);
    }
    seen += std::popcount(word.bits);
    words_.push_back(word);
  }
  return (pages - seen) * kPageTokens;
}

}  // namespace tandem::cuda
