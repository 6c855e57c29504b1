#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

namespace tandem {

// A leader (the thread that calls `run`) and its own workers, each pinned to a core. Between the ops of a
// step the workers spin, since the next op follows within microseconds; after that they sleep and cost
// nothing. Others use the cores too, and one may hold a worker's for milliseconds when it is called: so the
// leader does whatever no worker has begun, and waits only for those that have.
class ThreadTeam {
 public:
  // maxSize: the most threads `pin` may ask for, the leader included.
  explicit ThreadTeam(int maxSize);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  // From now on the team is cores.size() threads; the calling thread becomes the leader on cores[0].
  void pin(std::span<const int> cores);

  int size() const { return size_; }

  // Calls body(index) once for every index in [0, size()), and returns when all have returned. One index is
  // one thread's: index 0 and those whose workers come late are the calling one's, one after another. The
  // body must not throw.
  template <class Body>
  void run(Body&& body) {
    if (size_ == 1) {
      body(0);
      return;
    }
    start([](void* context, int index) { (*static_cast<std::remove_reference_t<Body>*>(context))(index); },
          &body);
    body(0);
    join();
  }

  // Splits [0, count) into one contiguous range a thread, borders at multiples of `grain`: body(begin, end).
  template <class Body>
  void split(std::int64_t count, std::int64_t grain, Body&& body) {
    run([&](int index) {
      const std::int64_t grains = (count + grain - 1) / grain;
      const std::int64_t begin = grains * index / size_ * grain;
      const std::int64_t end = std::min(count, grains * (index + 1) / size_ * grain);
      if (begin < end) body(begin, end);
    });
  }

  // Hands out [0, count) item by item to whichever thread is free: body(item, threadIndex).
  template <class Body>
  void forEach(std::int64_t count, Body&& body) {
    std::atomic<std::int64_t> next{0};
    run([&](int index) {
      for (std::int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < count;)
        body(item, index);
    });
  }

 private:
  using Job = void (*)(void* context, int index);

  void start(Job job, void* context);
  void join();
  void work(int index);

  struct alignas(64) Worker {
    // False where the share of that run is taken.
    bool take(std::uint32_t run);

    std::atomic<std::uint32_t> ticket{0};  // the last run this worker was called to
    std::atomic<std::uint32_t> taken{0};   // the last one of which it or the leader took its share
    std::atomic<int> core{-1};
    std::thread thread;
  };

  std::vector<Worker> workers_;
  std::vector<int> cores_;
  int size_ = 1;
  Job job_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> closing_{false};
  alignas(64) std::atomic<int> remaining_{0};
};

}  // namespace tandem
