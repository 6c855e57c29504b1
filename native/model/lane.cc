#include "model/lane.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/error.h"

namespace tandem {

Lane::Lane(int index, Backend& backend, KvCache& kv, int slots, std::unique_ptr<Forward> forward,
           std::unique_ptr<Ops> ops)
    : index_(index),
      backend_(backend),
      kv_(kv),
      forward_(std::move(forward)),
      ops_(std::move(ops)),
      rows_(static_cast<std::size_t>(slots), -1),
      thread_([this] { work(); }) {
  if (ops_->runsAhead()) watcher_ = std::thread([this] { watch(); });
}

void Lane::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
  if (watcher_.joinable()) watcher_.join();
}

void Lane::handOver(Job job) {
  unfinished_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_one();
}

std::optional<Lane::Job> Lane::takeBack() {
  std::optional<Job> job;
  {
    const std::lock_guard lock(mutex_);
    if (jobs_.empty() || !jobs_.back().follows) return job;
    job = std::move(jobs_.back());
    jobs_.pop_back();
  }
  unfinished_.fetch_sub(1, std::memory_order_relaxed);
  return job;
}

bool Lane::mayBegin() const {
  if (jobs_.empty()) return false;
  if (flights_.empty()) return true;
  const Flight& before = flights_.back();
  const Job& job = jobs_.front();
  return ops_->runsAhead() && flights_.size() == 1 && before.begun && before.begun->drawsAtOnce &&
         std::ranges::none_of(job.entries,
                              [](const ForwardEntry& entry) { return entry.slot->hasGrammar(); });
}

// Once the oldest step is done; before, where the next one waits for it, to begin that the sooner.
bool Lane::mayFinish() const {
  if (flights_.empty()) return false;
  if (oldestIsDone_ || closing_ || !ops_->runsAhead() || !flights_.front().begun) return true;
  return !jobs_.empty() && !mayBegin();
}

void Lane::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return mayFinish() || mayBegin() || closing_; });
    if (mayFinish()) {
      Flight flight = std::move(flights_.front());
      flights_.pop_front();
      oldestIsDone_ = false;
      lock.unlock();
      begun_.notify_one();
      finish(std::move(flight));
      lock.lock();
    } else if (mayBegin()) {
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      Flight flight = begin(std::move(job));
      lock.lock();
      flights_.push_back(std::move(flight));
      begun_.notify_one();
    } else {
      break;
    }
  }
  ended_ = true;
  lock.unlock();
  begun_.notify_one();
}

void Lane::watch() {
  std::unique_lock lock(mutex_);
  for (;;) {
    begun_.wait(lock,
                [this] { return ended_ || (!flights_.empty() && flights_.front().begun && !oldestIsDone_); });
    if (ended_) return;
    const std::uint64_t number = flights_.front().number;
    lock.unlock();
    try {
      ops_->await(number);
    } catch (...) {
      // Thrown again to who finishes the step.
    }
    lock.lock();
    if (flights_.empty() || !flights_.front().begun || flights_.front().number != number) continue;
    oldestIsDone_ = true;
    changed_.notify_one();
  }
}

Lane::Flight Lane::begin(Job job) {
  Flight flight{std::move(job), nullptr, 0, nullptr};
  const int prefillUnits = flight.job.prefillUnits;
  const int first = index_ == 0 ? 0 : prefillUnits;
  const int count = index_ == 0 ? prefillUnits : backend_.units() - prefillUnits;
  bool claimed = false;
  try {
    std::vector<std::int32_t> carried;
    if (flight.job.follows) carried = takeUp(flight.job);
    if (flight.job.follows && flights_.empty() && failed_) {
      throw Error("the step that this one was to follow has failed");
    }
    check(count > 0, "the lane has no compute units; partition the device first");
    backend_.claimUnits(index_, first, count);
    claimed = true;
    flight.begun =
        forward_->begin(*ops_, flight.job.entries, flight.job.step.probes, flight.job.step.sparse, carried);
    flight.number = submitted_++;
    noteRows(flight);
  } catch (...) {
    flight.error = std::current_exception();
    if (claimed) backend_.releaseUnits(index_);
  }
  return flight;
}

std::vector<std::int32_t> Lane::takeUp(Job& job) {
  std::vector<std::int32_t> carried(flights_.empty() ? 0 : job.entries.size(), -1);
  for (std::size_t i = 0; i < job.entries.size(); ++i) {
    const ForwardEntry& entry = job.entries[i];
    kv_.takeUp(entry.slotIndex, job.given[i]);
    if (!carried.empty()) carried[i] = rows_[static_cast<std::size_t>(entry.slotIndex)];
    job.tokens[i] = carried.empty() || carried[i] < 0 ? entry.slot->lastToken() : -1;
  }
  return carried;
}

void Lane::noteRows(const Flight& flight) {
  std::ranges::fill(rows_, -1);
  const std::vector<BegunStep::Drawn>& drawn = flight.begun->drawn;
  for (std::size_t row = 0; row < drawn.size(); ++row) {
    if (!drawn[row].isWanted) continue;
    rows_[static_cast<std::size_t>(flight.job.entries[drawn[row].entry].slotIndex)] =
        static_cast<std::int32_t>(row);
  }
}

void Lane::finish(Flight flight) {
  const Job& job = flight.job;
  StepResult result;
  std::exception_ptr error = flight.error;
  if (flight.begun) {
    try {
      if (job.follows && failed_) {
        ops_->finish();
        throw Error("the step that this one was to follow has failed");
      }
      result = Forward::finish(*ops_, job.entries, *flight.begun);
    } catch (...) {
      error = std::current_exception();
    }
    backend_.releaseUnits(index_);
  }
  failed_ = error != nullptr;
  // A failed step leaves the lengths as they were; what it may have written beyond them is never read.
  for (const ForwardEntry& entry : job.entries) {
    kv_.finishStep(entry.slotIndex, error ? 0 : static_cast<std::int64_t>(entry.tokens.size()));
  }
  unfinished_.fetch_sub(1, std::memory_order_release);
  job.done(std::move(result), error);
}

}  // namespace tandem
