#include "core/thread-team.h"

#include <array>
#include <atomic>

#include "check.h"

#if defined(__linux__)
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <set>
#include <string>
#endif

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

#if defined(__linux__)
namespace {

std::set<std::string> threads() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    names.insert(entry.path().filename());
  }
  return names;
}

// Holds up whichever thread gets the signal.
std::atomic<bool> isHeld{false}, isReleased{false};

void hold(int) {
  isHeld = true;
  while (!isReleased) {
    const timespec moment{0, 100'000};
    nanosleep(&moment, nullptr);
  }
  isHeld = false;
}

}  // namespace

TEST("thread team: a run does not wait for a worker that has not begun") {
  std::set<std::string> workers;
  const std::set<std::string> others = threads();
  ThreadTeam team(2);
  for (const std::string& thread : threads()) {
    if (!others.contains(thread)) workers.insert(thread);
  }
  test::equal(workers.size(), 1u, "workers");
  struct sigaction action {
  }, before{};
  action.sa_handler = hold;
  sigaction(SIGUSR2, &action, &before);
  test::equal(syscall(SYS_tgkill, getpid(), std::stoi(*workers.begin()), SIGUSR2), 0, "the worker's signal");
  while (!isHeld) usleep(100);

  std::array<std::atomic<int>, 2> seen{};
  auto runs = std::async(std::launch::async, [&] {
    team.pin(std::array{0, 1});
    for (int i = 0; i < 100; ++i) team.run([&](int index) { seen[index].fetch_add(1); });
    return isHeld.load();
  });
  // Only a run that waits takes any of this.
  const bool hasEnded = runs.wait_for(std::chrono::seconds(60)) == std::future_status::ready;
  isReleased = true;
  test::isTrue(runs.get() && hasEnded, "runs that end while the worker is held up");
  team.run([&](int index) { seen[index].fetch_add(1); });
  for (const auto& calls : seen) test::equal(calls.load(), 101, "calls of an index");
  while (isHeld) usleep(100);
  sigaction(SIGUSR2, &before, nullptr);
}
#endif
