#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cuda/probe.h"

namespace tandem::cuda {

// A step's probes as tiles, and as many tiles together as there is memory for; nearly always all.
class ProbePlan {
 public:
  // Tiles that are launched together, and the runs that they are of. Their sums lie side by side.
  struct Group {
    std::size_t firstTile, tiles;
    int mostRows, mostTokens;
    std::size_t firstRun, runs;
  };

  // Room for the parts of a group's tiles, which must be enough for one, and for so many sums of its runs,
  // which must be enough for one's.
  ProbePlan(const AttentionShape& shape, std::size_t partsBytes, std::size_t sums);

  // Throws Error if a probe's rows are not an entry's.
  void layOut(std::span<const EntryRows> probes, std::span<const EntryRows> entries);

  bool empty() const { return tiles_.empty(); }
  const std::vector<ProbeTile>& tiles() const { return tiles_; }
  const std::vector<Group>& groups() const { return groups_; }
  // The pages that the last row of each run sees.
  const std::vector<std::size_t>& pages() const { return pages_; }

 private:
  bool fits(const Group& group, int rows, int tokens) const;

  const AttentionShape shape_;
  const std::size_t partsBytes_, sums_;
  std::vector<ProbeTile> tiles_;
  std::vector<Group> groups_;
  std::vector<std::size_t> pages_;
};

}  // namespace tandem::cuda
