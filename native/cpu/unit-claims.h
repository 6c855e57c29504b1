#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace tandem::cpu {

// Which of the units each of two lanes holds. A unit has one holder; a lane that waits for the other is
// served before the other may claim the same units again, so that neither can starve.
class UnitClaims {
 public:
  explicit UnitClaims(int units) : units_(units) {}

  // Waits until [first, first + count) is free and every earlier claim to a part of it was served. Throws
  // Error if the range is empty or beyond the units, or if the lane holds units already.
  void claim(int lane, int first, int count);

  // Gives back what the lane holds, if anything.
  void release(int lane);

  // Whether the lane's claim is waiting for the other lane.
  bool waits(int lane);

 private:
  struct Claim {
    int first = 0;
    int count = 0;
    std::uint64_t ticket = 0;
    enum { none, waiting, held } state = none;

    bool overlaps(const Claim& other) const {
      return first < other.first + other.count && other.first < first + count;
    }
  };

  bool mayHold(const Claim& mine, const Claim& other) const;

  const int units_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Claim, 2> claims_;
  std::uint64_t tickets_ = 0;
};

}  // namespace tandem::cpu
