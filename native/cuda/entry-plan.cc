#include "cuda/entry-plan.h"

#include <algorithm>
#include <bit>

#include "cuda/decode-attention.h"

namespace tandem::cuda {
namespace {

// What parts of long contexts may take, for a batch that would need more is attended to in groups.
constexpr std::size_t kPartsBytes = std::size_t{128} << 20;

}  // namespace

std::size_t EntryPlan::partsBytes(const LaneLimits& limits) {
  const int most = roundedContext(limits.slotPages * kPageTokens);
  const AttentionShape& shape = limits.attention;
  const std::size_t one = decodeAttentionScratch(1, most, shape.heads, shape.headDim);
  const std::size_t all = decodeAttentionScratch(limits.slots, most, shape.heads, shape.headDim);
  return std::min(all, std::max(one, kPartsBytes));
}

int EntryPlan::roundedContext(std::int64_t tokens) {
  const auto step = std::max(256, static_cast<int>(std::bit_floor(static_cast<unsigned>(tokens))) / 4);
  return static_cast<int>((tokens + step - 1) / step * step);
}

EntryPlan::EntryPlan(const AttentionShape& shape, std::size_t partsBytes)
    : shape_(shape), partsBytes_(partsBytes), tileTokens_(prefillTileTokens(shape.heads, shape.kvHeads)) {}

void EntryPlan::layOut(const StepPlan& plan) {
  positions_.assign(plan.tokens.size(), 0);
  pieces_.clear();
  longestPiece_ = 0;
  severals_ = 0;
  tiles_.clear();
  singles_.clear();
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    const EntryRows& entry = plan.entries[i];
    const auto sequence = static_cast<std::int32_t>(i);
    for (std::int64_t token = 0; token < entry.count; ++token) {
      positions_[static_cast<std::size_t>(entry.row + token)] =
          static_cast<std::int32_t>(entry.dropped + entry.position + token);
    }
    addPieces(entry, sequence);
    if (plan.isPartitioned(i)) continue;
    if (entry.count == 1) {
      singles_.push_back({plan.tables[i].slot, static_cast<std::int32_t>(entry.row), sequence,
                          static_cast<std::int32_t>(entry.position + 1)});
    } else {
      ++severals_;
      addTiles(entry, sequence);
    }
  }
  groupSingles();
}

void EntryPlan::addPieces(const EntryRows& entry, std::int32_t sequence) {
  for (std::int64_t done = 0; done < entry.count;) {
    const std::int64_t token = (entry.position + done) % kPageTokens;
    const std::int64_t count = std::min(entry.count - done, kPageTokens - token);
    pieces_.push_back({static_cast<std::int32_t>(entry.row + done), static_cast<std::int32_t>(count),
                       sequence, static_cast<std::int32_t>((entry.position + done) / kPageTokens),
                       static_cast<std::int32_t>(token)});
    longestPiece_ = std::max(longestPiece_, static_cast<int>(count));
    done += count;
  }
}

void EntryPlan::addTiles(const EntryRows& entry, std::int32_t sequence) {
  for (std::int64_t done = 0; done < entry.count; done += tileTokens_) {
    tiles_.push_back({static_cast<std::int32_t>(entry.row + done),
                      static_cast<std::int32_t>(std::min(tileTokens_, entry.count - done)), sequence,
                      static_cast<std::int32_t>(entry.position + done)});
  }
}

void EntryPlan::groupSingles() {
  groups_.clear();
  for (std::size_t i = 0; i < singles_.size(); ++i) {
    const int tokens = roundedContext(singles_[i].context);
    if (!groups_.empty()) {
      Group& group = groups_.back();
      const int most = std::max(group.mostTokens, tokens);
      if (decodeAttentionScratch(group.count + 1, most, shape_.heads, shape_.headDim) <= partsBytes_) {
        ++group.count;
        group.mostTokens = most;
        continue;
      }
    }
    groups_.push_back({static_cast<int>(i), 1, tokens});
  }
}

}  // namespace tandem::cuda
