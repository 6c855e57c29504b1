#include "cpu/attention/best-pages.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "check.h"

using namespace tandem;

namespace {

// From the definition.
std::vector<std::int64_t> bestBySorting(const std::vector<float>& promises, std::size_t count,
                                        const std::vector<std::int64_t>& pages) {
  std::vector<std::size_t> order(pages.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return promises[a] > promises[b]; });
  order.resize(count);
  std::ranges::sort(order);
  std::vector<std::int64_t> best;
  for (const std::size_t i : order) best.push_back(pages[i]);
  return best;
}

}  // namespace

TEST("best pages: those that promise most, the earlier of equal ones, in their order") {
  std::mt19937 random(5);
  const auto below = [&](std::size_t bound) { return random() % bound; };
  std::normal_distribution<float> near(40, 3), wide(0, 1e20f);
  cpu::BestPages best;
  for (int turn = 0; turn < 2000; ++turn) {
    const std::size_t size = 1 + below(turn % 10 == 0 ? 5000 : 60);
    std::vector<std::int64_t> pages(size);
    std::iota(pages.begin(), pages.end(), 2);
    std::vector<float> promises;
    const auto kind = below(5);
    for (std::size_t i = 0; i < size; ++i) {
      float promise = near(random);
      if (kind == 1) promise = wide(random);
      if (kind == 2) promise = static_cast<float>(below(4)) - 2;  // most of them equal
      if (kind == 3 && below(9) == 0) promise = std::numeric_limits<float>::infinity();
      if (kind == 4) promise = below(2) == 0 ? -0.0f : -promise;
      promises.push_back(promise);
    }
    // A zero has two forms, which are in order here.
    if (kind == 2) std::ranges::replace(promises, -0.0f, 0.0f);
    const std::size_t count = 1 + below(size);
    const std::vector<std::int64_t> expected = bestBySorting(promises, count, pages);
    best.keep(promises, count, pages);
    test::isTrue(pages == expected, "turn " + std::to_string(turn) + ", " + std::to_string(count) + " of " +
                                        std::to_string(size));
  }
}
