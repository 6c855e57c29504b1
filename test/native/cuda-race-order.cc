#include "cuda-race-order.h"

#include <algorithm>

namespace tandem::emulation::races {
namespace {

void join(std::vector<Time>& into, const std::vector<Time>& from) {
  if (into.size() < from.size()) into.resize(from.size(), 0);
  for (std::size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

template <class T>
void keepDistinct(std::vector<T>& all) {
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
}

}  // namespace

void Order::beginLaunch(bool early) {
  // A kernel that begins early may meet the one before it, and whom that one may still meet, too.
  const std::uint32_t before = launchFirst_;
  launchFirst_ = run_ + 1;
  unorderedFrom_ = early && launchLets_ ? (launchEarly_ ? unorderedFrom_ : before) : launchFirst_;
  launchEarly_ = early;
  launchLets_ = false;
  atomics_.clear();
}

void Order::beginBlock(unsigned threads) {
  ++run_;
  blockMet_ = ++now_;
  threads_.assign(threads, Thread{});
  for (Thread& thread : threads_) thread.sawLaunches = !launchEarly_;
  warps_.assign((threads + kWarp - 1) / kWarp, Warp{});
  bulkSeen_.assign(threads, 0);
  barriers_.clear();
}

Access Order::now(By by) const {
  const Thread& thread = threads_[threadIdx.x];
  Access access;
  access.run = run_;
  access.at = by == By::copies ? thread.copies.ended : by == By::tensorCores ? thread.products.ended : now_;
  access.thread = static_cast<std::uint16_t>(threadIdx.x);
  access.by = by;
  return access;
}

Order::Thread& Order::own() { return threads_[threadIdx.x]; }

std::pair<unsigned, unsigned> Order::lanesOf(unsigned thread) const {
  const unsigned first = thread / kWarp * kWarp;
  return {first, std::min(first + kWarp, static_cast<unsigned>(threads_.size()))};
}

void Order::meetBlock() {
  blockMet_ = ++now_;
  bool anySawLaunches = false;
  Releases found, acquired;
  for (Thread& thread : threads_) {
    anySawLaunches |= thread.sawLaunches;
    append(found, thread.found);
    append(acquired, thread.acquired);
    if (thread.seen.empty()) continue;
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      bulkSeen_[i] = std::max(bulkSeen_[i], thread.seen[threads_.size() + i]);
    }
    thread.seen.clear();
  }
  keepDistinct(found);
  keepDistinct(acquired);
  for (Thread& thread : threads_) {
    thread.sawLaunches = anySawLaunches;
    thread.found = found;
    thread.acquired = acquired;
  }
}

void Order::meetWarp() {
  Warp& warp = warps_[threadIdx.x / kWarp];
  // The first that comes back finds all others there: they have done what they did before.
  if (own().warpMeetings++ != warp.meetings) return;
  ++warp.meetings;
  warp.met = ++now_;
  const auto [first, end] = lanesOf(threadIdx.x);
  bool anySawLaunches = false;
  std::vector<Time> seen;
  for (unsigned i = first; i < end; ++i) {
    anySawLaunches |= threads_[i].sawLaunches;
    join(seen, threads_[i].seen);
  }
  for (unsigned i = first; i < end; ++i) {
    threads_[i].sawLaunches = anySawLaunches;
    threads_[i].seen = seen;
  }
}

std::vector<Time>& Order::clockOf(const void* barrier, unsigned phase) {
  Clock& clock = barriers_[barrier];
  auto& seen = clock.seen[phase];
  if (clock.phase != phase) seen.clear();
  clock.phase = phase;
  seen.resize(2 * threads_.size(), 0);
  return seen;
}

void Order::arrive(const void* barrier, unsigned phase) {
  auto& seen = clockOf(barrier, phase);
  ++now_;
  join(seen, own().seen);
  const auto [first, end] = lanesOf(threadIdx.x);
  for (unsigned i = first; i < end; ++i) seen[i] = std::max(seen[i], warps_[first / kWarp].met);
  seen[threadIdx.x] = now_;
}

void Order::await(const void* barrier, unsigned phase) { join(own().seen, barriers_[barrier].seen[phase]); }

void Order::completeBulkCopies(const void* barrier, unsigned phase) {
  clockOf(barrier, phase)[threads_.size() + threadIdx.x] = ++now_;
}

void Order::endGroup(By by) { ++groupsOf(own(), by).ended; }

void Order::waitForGroups(By by, unsigned left) {
  Groups& groups = groupsOf(own(), by);
  if (groups.ended > left + groups.done()) groups.waits.emplace_back(now_++, groups.ended - left);
}

void Order::publishToTensorCores() { own().publications.push_back({now_++, own().copies.done()}); }
void Order::fenceThread() {
  Thread& thread = own();
  thread.fence = ++now_;
  append(thread.acquired, thread.found);
  thread.found.clear();
}
void Order::waitForKernelsBefore() { own().sawLaunches = true; }
void Order::letNextKernelBegin() { launchLets_ = true; }

void Order::exchangeAt(std::uintptr_t address, bool isShared) {
  Releases& left = atomics_[address];
  append(own().found, left);
  if (own().fence == 0 || isShared) return;
  auto release = std::make_shared<Release>(Release{run_, std::vector<Time>(threads_.size(), 0)});
  for (unsigned i = 0; i < threads_.size(); ++i) {
    const Time fence = threads_[i].fence;
    if (i == threadIdx.x || fence < seenOf(threadIdx.x, i)) release->fences[i] = fence;
  }
  left.push_back(std::move(release));
}

// Up to when one thread has seen another.
Time Order::seenOf(unsigned reader, unsigned other) const {
  const Thread& thread = threads_[reader];
  Time seen = blockMet_;
  if (reader / kWarp == other / kWarp) seen = std::max(seen, warps_[reader / kWarp].met);
  if (!thread.seen.empty()) seen = std::max(seen, thread.seen[other]);
  return seen;
}

Time Order::bulkSeenOf(unsigned reader, unsigned other) const {
  const Thread& thread = threads_[reader];
  return std::max(bulkSeen_[other], thread.seen.empty() ? 0 : thread.seen[threads_.size() + other]);
}

// Whether a group is done, and the thread knows.
bool Order::hasSeenGroup(const Groups& groups, std::uint32_t group, unsigned reader, unsigned other) const {
  const auto wait = std::upper_bound(groups.waits.begin(), groups.waits.end(), group,
                                     [](std::uint32_t wanted, const auto& of) { return wanted < of.second; });
  return wait != groups.waits.end() && (reader == other || wait->first < seenOf(reader, other));
}

bool Order::isOrderedWithinBlock(const Access& before, const Access& now) const {
  const unsigned reader = now.thread, other = before.thread;
  switch (before.by) {
    case By::thread:
      return reader == other || before.at < seenOf(reader, other);
    case By::copies:
      return (now.by == By::copies && reader == other) ||
             hasSeenGroup(threads_[other].copies, before.at, reader, other);
    case By::tensorCores:
      // They are waited for by all lanes of their warp together.
      if (reader / kWarp != other / kWarp) {
        return hasSeenGroup(threads_[other].products, before.at, reader, other);
      }
      return now.by == By::tensorCores || threads_[reader].products.done() > before.at;
    case By::bulkCopies:
      return before.at < bulkSeenOf(reader, other);
  }
  return false;
}

bool Order::isOrdered(const Access& before, const Access& now, bool isShared) const {
  if (before.run == now.run) return isOrderedWithinBlock(before, now);
  if (isShared) return true;
  const Thread& thread = threads_[now.thread];
  if (before.run < launchFirst_) return before.run < unorderedFrom_ || thread.sawLaunches;
  for (const auto& release : thread.acquired) {
    if (release->run == before.run) {
      return before.by != By::thread || before.at < release->fences[before.thread];
    }
  }
  return false;
}

bool Order::isPublished(const Access& written, const Access& now) const {
  if (written.run != run_ || written.by == By::bulkCopies) return true;
  const unsigned reader = now.thread, other = written.thread;
  for (const Publication& publication : threads_[other].publications) {
    const bool covers =
        written.by == By::copies ? publication.copiesDone > written.at : publication.at >= written.at;
    if (covers) return reader == other || publication.at < seenOf(reader, other);
  }
  return false;
}

}  // namespace tandem::emulation::races
