#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tandem::cpu {

// Finds the pages that promise most, without sorting. One thread's memory.
class BestPages {
 public:
  // Of `pages`, which ascend, leaves the `count` whose promises are the highest, in their order; of equal
  // promises those of earlier pages. promises [pages], none of them NaN; count <= pages.
  void keep(std::span<const float> promises, std::size_t count, std::vector<std::int64_t>& pages);

 private:
  // Of the `count` highest orders the lowest, and how many of that order are among them.
  struct Limit {
    std::uint32_t order;
    std::size_t equals;
  };
  Limit limitOf(std::size_t count);

  std::vector<std::uint32_t> orders_, among_;
};

}  // namespace tandem::cpu
