#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/ops.h"
#include "kv/kv-cache.h"
#include "model/forward.h"
#include "model/step.h"

namespace tandem {

// A lane's thread, which runs steps one after another. On a backend whose ops run ahead, a step that follows
// begins while the one before it still runs: its tokens go from one to the other on the device, and what the
// earlier one brought is told when it is done. Such a step begins only behind the earlier one where
//
// - a slot has a grammar: which tokens may come depends on the one that is being drawn;
// - the earlier one draws in several rounds, so that not all of its tokens are left on the device.
class Lane {
 public:
  // Runs once for a step: with its result, or with what went wrong in it.
  using Done = std::function<void(StepResult, std::exception_ptr)>;

  struct Job {
    Step step;
    int prefillUnits = 0;  // as the device was partitioned when the step was handed over
    Done done;
    std::vector<ForwardEntry> entries;
    std::vector<std::int32_t> tokens;  // what the entries' spans point into
    // Of a step that follows: what its slots were given while the one before it ran.
    bool follows = false;
    std::vector<std::vector<PageId>> given;
  };

  // The backend and the KV outlive it.
  Lane(int index, Backend& backend, KvCache& kv, int slots, std::unique_ptr<Forward> forward,
       std::unique_ptr<Ops> ops);
  ~Lane() { close(); }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Called by the thread that plans. At most one that runs and one that follows it.
  void handOver(Job job);
  // The step that waits, if it has not begun.
  std::optional<Job> takeBack();
  // Steps whose slots are not free yet.
  int unfinished() const { return unfinished_.load(std::memory_order_acquire); }
  // Ends the thread when all steps are done.
  void close();

 private:
  // A step that has begun, or failed to.
  struct Flight {
    Job job;
    std::unique_ptr<BegunStep> begun;
    std::uint64_t number = 0;  // among those that were submitted
    std::exception_ptr error;
  };

  void work();
  bool mayBegin() const;
  bool mayFinish() const;
  Flight begin(Job job);
  // What was not known, or not the lane's, when the step was planned. Returns what StepPlan calls carried.
  std::vector<std::int32_t> takeUp(Job& job);
  void noteRows(const Flight& flight);
  void finish(Flight flight);
  // Tells the lane's thread, which may have a further step to begin, that the oldest one is done.
  void watch();

  const int index_;
  Backend& backend_;
  KvCache& kv_;
  const std::unique_ptr<Forward> forward_;
  const std::unique_ptr<Ops> ops_;

  std::mutex mutex_;
  std::condition_variable changed_, begun_;
  std::deque<Job> jobs_;        // that have not begun
  std::deque<Flight> flights_;  // that are not finished; changed by the lane's thread alone
  bool oldestIsDone_ = false;   // nothing is left to be waited for
  bool closing_ = false, ended_ = false;
  std::atomic<int> unfinished_{0};

  // The lane's thread's.
  std::vector<std::int32_t> rows_;  // of each slot, which request of the step begun last draws for it; -1
  std::uint64_t submitted_ = 0;
  bool failed_ = false;  // the step finished last

  std::thread thread_, watcher_;
};

}  // namespace tandem
