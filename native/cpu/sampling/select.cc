#include "cpu/sampling/select.h"

#include <algorithm>
#include <limits>

namespace tandem::cpu {

void selectBest(const RowKernels& kernels, std::span<const float> row, std::size_t k,
                std::vector<Candidate>& best) {
  constexpr std::size_t kBlock = 256;  // skipped at vector speed when nothing in it passes the threshold
  best.clear();
  k = std::min(k, row.size());
  if (k == 0) return;
  const std::size_t room = 2 * k + kBlock;
  bool full = false;
  float threshold = 0;
  const auto prune = [&] {
    std::nth_element(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(k) - 1, best.end(), better);
    best.resize(k);
    threshold = best.back().value;
    full = true;
  };
  for (std::size_t begin = 0; begin < row.size(); begin += kBlock) {
    const std::size_t end = std::min(row.size(), begin + kBlock);
    if (full && kernels.countAbove(row.data() + begin, end - begin, threshold) == 0) continue;
    for (std::size_t i = begin; i < end; ++i) {
      // Equal to the threshold is not enough: k tokens with lower ids are as good.
      if (full && !(row[i] > threshold)) continue;
      best.push_back({row[i], static_cast<std::int32_t>(i)});
    }
    if (best.size() >= room) prune();
  }
  if (best.size() > k) prune();
  std::sort(best.begin(), best.end(), better);
}

}  // namespace tandem::cpu
