#include "cuda-emulated-work.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "core/error.h"
#include "cuda-emulated-runtime.h"
#include "cuda-emulation.h"

namespace tandem::emulation {
namespace {

// Of a test with those who enqueue. It ends what hangs; a slow and busy machine must not reach it.
constexpr std::chrono::minutes kPatience{10};

struct Work {
  std::function<void()> run;
  bool endsStep;
  std::uint64_t number;  // of what had to wait
};

std::mutex mutex;
std::condition_variable changed;
std::atomic<bool> busy = false, lost = false;
std::deque<Work> waiting;
std::uint64_t enqueued = 0, done = 0;  // of what had to wait
std::map<std::string, int> launches;   // since the device is busy

// The first that waits. True if it ends a step.
bool doNext(std::unique_lock<std::mutex>& lock) {
  const Work work = std::move(waiting.front());
  waiting.pop_front();
  lock.unlock();
  work.run();
  lock.lock();
  done = std::max(done, work.number);
  changed.notify_all();
  return work.endsStep;
}

}  // namespace

bool isBusy() { return busy; }

std::uint64_t enqueueWork(std::function<void()> work, bool endsStep) {
  {
    const std::lock_guard lock(mutex);
    if (lost) return 0;
    if (busy) {
      waiting.push_back({std::move(work), endsStep, ++enqueued});
      changed.notify_all();
      return enqueued;
    }
  }
  work();
  return 0;
}

void enqueue(const char* kernel, std::function<void()> launch) {
  enqueueWork(std::move(launch));
  const std::lock_guard lock(mutex);
  ++launches[kernel];
  changed.notify_all();
}

std::uint64_t enqueuedWork() {
  const std::lock_guard lock(mutex);
  return enqueued;
}

void awaitWork(std::uint64_t mark) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done >= mark || lost; });
}

bool isLost() { return lost; }

void setLost(bool isNow) {
  const std::lock_guard lock(mutex);
  lost = isNow;
  if (!lost) return;
  waiting.clear();
  done = enqueued;
  changed.notify_all();
}

BusyDevice::BusyDevice() {
  const std::lock_guard lock(mutex);
  check(!busy, "the emulated device is busy already");
  launches.clear();
  busy = true;
}

BusyDevice::~BusyDevice() {
  std::unique_lock lock(mutex);
  while (!waiting.empty()) doNext(lock);
  busy = false;
}

void BusyDevice::awaitLaunches(const char* kernel, int count) const {
  std::unique_lock lock(mutex);
  check(changed.wait_for(lock, kPatience, [&] { return launches[kernel] >= count; }),
        (std::string("nobody launches ") + kernel).c_str());
}

int BusyDevice::launchesOf(const char* kernel) const {
  const std::lock_guard lock(mutex);
  return launches[kernel];
}

void BusyDevice::doStep() {
  std::unique_lock lock(mutex);
  do {
    check(changed.wait_for(lock, kPatience, [] { return !waiting.empty(); }), "nobody ends the step");
  } while (!doNext(lock));
}

}  // namespace tandem::emulation
