#pragma once

// What of a block's accesses comes before what: who has seen whom, and up to when.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda-race-memory.h"

namespace tandem::emulation::races {

class Order {
 public:
  void beginLaunch(bool early);
  void beginBlock(unsigned threads);

  std::uint32_t run() const { return run_; }
  bool isOfLaunch(std::uint32_t run) const { return run >= launchFirst_; }

  // An access that the thread threadIdx, or what it has begun, makes now.
  Access now(By by) const;
  // Whether one comes before another, which is made now. Shared memory is a block's own.
  bool isOrdered(const Access& before, const Access& now, bool isShared) const;
  // Whether tensor cores find what was written, which comes before.
  bool isPublished(const Access& written, const Access& now) const;

  // Of the thread threadIdx; as in cuda-races.h.
  void meetBlock();
  void meetWarp();
  void arrive(const void* barrier, unsigned phase);
  void await(const void* barrier, unsigned phase);
  void completeBulkCopies(const void* barrier, unsigned phase);
  void endGroup(By by);
  void waitForGroups(By by, unsigned left);
  void publishToTensorCores();
  void fenceThread();
  // An atomic operation finds what others have left behind the same one, and leaves what fences cover. Seen
  // is what was found behind the next fence.
  void exchangeAt(std::uintptr_t address, bool isShared);
  void waitForKernelsBefore();
  void letNextKernelBegin();

 private:
  // Groups of copies or of products: one is done when its thread has waited for it.
  struct Groups {
    std::uint32_t ended = 0;
    std::vector<std::pair<Time, std::uint32_t>> waits;  // when, and how many were done

    std::uint32_t done() const { return waits.empty() ? 0 : waits.back().second; }
  };

  // What a block left before an atomic operation: of each thread all before its fence.
  struct Release {
    std::uint32_t run;
    std::vector<Time> fences;
  };
  using Releases = std::vector<std::shared_ptr<const Release>>;

  struct Publication {
    Time at;
    std::uint32_t copiesDone;
  };

  struct Thread {
    // Up to when it has seen the others, and their bulk copies behind those, by barriers that are not the
    // block's. Empty: by none since the block has met.
    std::vector<Time> seen;
    bool sawLaunches = false;
    Time fence = 0;
    unsigned warpMeetings = 0;
    Groups copies, products;
    std::vector<Publication> publications;
    Releases found, acquired;  // before and behind a fence of its own
  };

  struct Warp {
    Time met = 0;
    unsigned meetings = 0;
  };

  // Of a Barrier: what those have seen who arrived in each phase.
  struct Clock {
    unsigned phase = 0;
    std::array<std::vector<Time>, 2> seen;
  };

  Thread& own();
  static Groups& groupsOf(Thread& thread, By by) {
    return by == By::copies ? thread.copies : thread.products;
  }
  std::pair<unsigned, unsigned> lanesOf(unsigned thread) const;
  std::vector<Time>& clockOf(const void* barrier, unsigned phase);
  Time seenOf(unsigned reader, unsigned other) const;
  Time bulkSeenOf(unsigned reader, unsigned other) const;
  bool hasSeenGroup(const Groups& groups, std::uint32_t group, unsigned reader, unsigned other) const;
  bool isOrderedWithinBlock(const Access& before, const Access& now) const;

  Time now_ = 1;
  std::uint32_t run_ = 0, launchFirst_ = 1;
  std::uint32_t unorderedFrom_ = 1;  // the first block that a kernel may meet before it waits
  bool launchEarly_ = false, launchLets_ = false;

  // Of the block.
  Time blockMet_ = 0;
  std::vector<Time> bulkSeen_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::unordered_map<const void*, Clock> barriers_;

  std::unordered_map<std::uintptr_t, Releases> atomics_;  // of the launch
};

}  // namespace tandem::emulation::races
