#include "cuda/probe-plan.h"

#include <algorithm>

#include "core/error.h"

namespace tandem::cuda {

ProbePlan::ProbePlan(const AttentionShape& shape, std::size_t partsBytes, std::size_t sums)
    : shape_(shape), partsBytes_(partsBytes), sums_(sums) {}

void ProbePlan::layOut(std::span<const EntryRows> probes, std::span<const EntryRows> entries) {
  tiles_.clear();
  groups_.clear();
  pages_.clear();
  const auto tileTokens = static_cast<std::int64_t>(probeTileTokens(shape_.heads, shape_.kvHeads));
  std::size_t sums = 0;  // of the last group
  for (std::size_t run = 0; run < probes.size(); ++run) {
    const EntryRows& rows = probes[run];
    const auto holder = std::ranges::find_if(entries, [&](const EntryRows& entry) {
      return rows.row >= entry.row && rows.row + rows.count <= entry.row + entry.count;
    });
    check(holder != entries.end(), "probe: rows are not an entry's");
    const auto tokens = static_cast<int>(rows.position + rows.count);
    const auto pages = static_cast<std::size_t>((tokens + kPageTokens - 1) / kPageTokens);
    pages_.push_back(pages);
    for (std::int64_t done = 0; done < rows.count; done += tileTokens) {
      const auto count = static_cast<int>(std::min(tileTokens, rows.count - done));
      const std::size_t more = done == 0 ? pages : 0;
      if (groups_.empty() || sums + more > sums_ || !fits(groups_.back(), count, tokens)) {
        groups_.push_back({tiles_.size(), 0, 0, 0, run, 0});
        sums = 0;
      }
      Group& group = groups_.back();
      if (group.firstRun + group.runs == run) {
        ++group.runs;
        sums += pages;
      }
      ++group.tiles;
      group.mostRows = std::max(group.mostRows, count);
      group.mostTokens = std::max(group.mostTokens, tokens);
      tiles_.push_back({static_cast<std::int32_t>(rows.row + done), count,
                        static_cast<std::int32_t>(holder - entries.begin()),
                        static_cast<std::int32_t>(rows.position + done),
                        static_cast<std::int32_t>(sums - pages)});
    }
  }
}

// Whether a tile of so many rows in a context of so many tokens may come along.
bool ProbePlan::fits(const Group& group, int rows, int tokens) const {
  return probeScratch(static_cast<int>(group.tiles) + 1, std::max(group.mostRows, rows),
                      std::max(group.mostTokens, tokens), shape_.heads, shape_.kvHeads) <= partsBytes_;
}

}  // namespace tandem::cuda
