#include "core/thread-team.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>

#include "core/error.h"

namespace tandem {
namespace {

// Longer than the gap between two ops or two decode steps of a small model, shorter than anyone would notice.
constexpr auto kSpin = std::chrono::microseconds(50);

void pinCurrentThread(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  // A container may forbid the core; then the system places the thread, which is slower but right.
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns once `ready()`: spins for a while, then sleeps on `word` until it changes from `seen`.
template <class T, class Ready>
void await(std::atomic<T>& word, Ready ready) {
  const auto until = std::chrono::steady_clock::now() + kSpin;
  for (int i = 0;; ++i) {
    if (ready()) return;
    pause();
    if (i % 64 == 63 && std::chrono::steady_clock::now() > until) break;
  }
  for (;;) {
    const T seen = word.load(std::memory_order_acquire);
    if (ready()) return;
    word.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace

ThreadTeam::ThreadTeam(int maxSize) : workers_(static_cast<std::size_t>(maxSize > 0 ? maxSize - 1 : 0)) {
  check(maxSize > 0, "a thread team needs at least one thread");
  for (int i = 0; i < static_cast<int>(workers_.size()); ++i) {
    workers_[i].thread = std::thread([this, i] { work(i); });
  }
}

ThreadTeam::~ThreadTeam() {
  closing_.store(true, std::memory_order_release);
  for (Worker& worker : workers_) {
    worker.ticket.fetch_add(1, std::memory_order_release);
    worker.ticket.notify_one();
    worker.thread.join();
  }
}

void ThreadTeam::pin(std::span<const int> cores) {
  check(!cores.empty() && cores.size() <= workers_.size() + 1,
        "a thread team was given more cores than threads");
  size_ = static_cast<int>(cores.size());
  if (std::equal(cores.begin(), cores.end(), cores_.begin(), cores_.end())) return;
  cores_.assign(cores.begin(), cores.end());
  pinCurrentThread(cores[0]);
  for (int i = 1; i < size_; ++i) workers_[i - 1].core.store(cores[i], std::memory_order_relaxed);
}

void ThreadTeam::start(Job job, void* context) {
  job_ = job;
  context_ = context;
  remaining_.store(size_ - 1, std::memory_order_relaxed);
  for (int i = 0; i < size_ - 1; ++i) {
    workers_[i].ticket.fetch_add(1, std::memory_order_release);
    workers_[i].ticket.notify_one();
  }
}

bool ThreadTeam::Worker::take(std::uint32_t run) {
  std::uint32_t before = run - 1;
  return taken.compare_exchange_strong(before, run, std::memory_order_acq_rel, std::memory_order_relaxed);
}

void ThreadTeam::join() {
  for (int i = 0; i < size_ - 1 && remaining_.load(std::memory_order_relaxed) > 0; ++i) {
    if (!workers_[i].take(workers_[i].ticket.load(std::memory_order_relaxed))) continue;
    job_(context_, i + 1);
    remaining_.fetch_sub(1, std::memory_order_relaxed);
  }
  await(remaining_, [this] { return remaining_.load(std::memory_order_acquire) == 0; });
}

void ThreadTeam::work(int index) {
  Worker& self = workers_[index];
  int pinned = -1;
  for (std::uint32_t done = 0;;) {
    await(self.ticket, [&] { return self.ticket.load(std::memory_order_acquire) != done; });
    done = self.ticket.load(std::memory_order_acquire);
    if (closing_.load(std::memory_order_acquire)) return;
    if (const int core = self.core.load(std::memory_order_relaxed); core != pinned) {
      pinCurrentThread(core);
      pinned = core;
    }
    // Else the leader has done it, and there may be another one already.
    if (!self.take(done)) continue;
    job_(context_, index + 1);
    if (remaining_.fetch_sub(1, std::memory_order_acq_rel) == 1) remaining_.notify_one();
  }
}

}  // namespace tandem
