#pragma once

#include <time.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace tandem::bench {

// Seconds of one call: the median of wall time, and of CPU time of all threads the mean, since its clock may
// tick as seldom as a scheduler does.
struct Timing {
  double wall;
  double cpu;
};

inline double cpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Calls body() once uncounted, then for about `seconds` and at least five times.
template <class Body>
Timing measure(double seconds, Body&& body) {
  using Clock = std::chrono::steady_clock;
  body();
  std::vector<double> walls;
  double total = 0;
  const double cpu = cpuSeconds();
  while (walls.size() < 5 || total < seconds) {
    const auto start = Clock::now();
    body();
    walls.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    total += walls.back();
  }
  const double cpuEach = (cpuSeconds() - cpu) / static_cast<double>(walls.size());
  std::nth_element(walls.begin(), walls.begin() + walls.size() / 2, walls.end());
  return {walls[walls.size() / 2], cpuEach};
}

}  // namespace tandem::bench
