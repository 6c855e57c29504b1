#include "core/thread-team.h"

#include <array>
#include <atomic>

#include "check.h"

using namespace tandem;

TEST("thread team: every index runs once, for a thousand runs and changing sizes") {
  ThreadTeam team(4);
  const std::array<int, 4> cores{0, 1, 0, 1};
  for (int round = 0; round < 1000; ++round) {
    const int size = 1 + round % 4;
    team.pin(std::span(cores).first(size));
    std::array<std::atomic<int>, 4> seen{};
    team.run([&](int index) { seen[index].fetch_add(1); });
    for (int i = 0; i < 4; ++i) test::equal(seen[i].load(), i < size ? 1 : 0, "calls of an index");
  }
}

TEST("thread team: split covers the range once, at borders of the grain") {
  ThreadTeam team(3);
  team.pin(std::array{0, 1, 0});
  for (std::int64_t count : {0, 1, 15, 16, 17, 1000}) {
    std::atomic<std::int64_t> covered{0};
    team.split(count, 16, [&](std::int64_t begin, std::int64_t end) {
      if (begin % 16 != 0) covered.fetch_add(1'000'000);
      covered.fetch_add(end - begin);
    });
    test::equal(covered.load(), count, "covered items");
  }
}
