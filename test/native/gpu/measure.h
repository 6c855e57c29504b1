#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "cuda/device-array.h"
#include "median.h"

namespace tandem::gpu {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

using test::median;

// Seconds of one `enqueue()`, by the host's clock around as many as take a millisecond or more, so that
// neither launches nor waiting count: the median of five such rounds or of what fits into `budget` seconds.
template <class Enqueue>
double secondsOf(cuda::Stream stream, double budget, Enqueue&& enqueue) {
  const auto round = [&](int count) {
    const double begin = now();
    for (int i = 0; i < count; ++i) enqueue();
    test::synchronize(stream);
    return (now() - begin) / count;
  };
  round(1);
  const int count = std::clamp(static_cast<int>(2e-3 / std::max(1e-6, round(2))), 1, 500);
  std::vector<double> rounds;
  const double end = now() + budget;
  while (rounds.size() < 5 || now() < end) rounds.push_back(round(count));
  return median(rounds);
}

}  // namespace tandem::gpu
