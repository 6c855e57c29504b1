#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "kv/host-memory.h"
#include "kv/kv-memory.h"

namespace tandem {

// Pages to copy between the KV memory and the host's, where they lie one after another.
struct PageCopies {
  std::vector<std::span<std::byte>> pages;
  std::shared_ptr<HostMemory> host;
  bool toHost = true;

  void run(KvMemory& memory) const;
};

// The thread that moves KV to host memory and back, or to another class. A long sequence takes tens of
// milliseconds, which neither the planning thread nor a lane should wait for. One after another: memory
// bandwidth would not make two any faster.
class CopyThread {
 public:
  CopyThread();
  ~CopyThread();  // does what was posted first
  CopyThread(const CopyThread&) = delete;
  CopyThread& operator=(const CopyThread&) = delete;

  // `done` runs on this thread, after `work` has run and what it captured is gone. `work` throws only where
  // the device fails for good; then no later work runs, and `rethrow` says why. `done` must not throw.
  void post(std::function<void()> work, std::function<void()> done);

  // Throws what work on this thread has thrown.
  void rethrow();

  // Frees memory here if this was its last owner: to unmap gigabytes takes long too. May be null.
  void retire(std::shared_ptr<HostMemory> memory);

 private:
  struct Job {
    std::function<void()> work;
    std::function<void()> done;
  };

  void add(Job job);
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool closing_ = false;
  std::exception_ptr failure_;
  std::thread thread_;  // last, since it uses the others
};

}  // namespace tandem
