#include "cpu/unit-claims.h"

#include <string>

#include "core/error.h"

namespace tandem::cpu {

bool UnitClaims::mayHold(const Claim& mine, const Claim& other) const {
  if (other.state == Claim::none || !mine.overlaps(other)) return true;
  return other.state == Claim::waiting && mine.ticket < other.ticket;
}

void UnitClaims::claim(int lane, int first, int count) {
  check(lane == 0 || lane == 1, "a lane is 0 (prefill) or 1 (decode)");
  if (first < 0 || count < 1 || count > units_ || first > units_ - count) {
    throw Error("a lane claimed units " + std::to_string(first) + " to " + std::to_string(first + count) +
                " of " + std::to_string(units_));
  }
  std::unique_lock lock(mutex_);
  Claim& mine = claims_[lane];
  const Claim& other = claims_[1 - lane];
  check(mine.state == Claim::none, "a lane claimed units while it holds some; release them first");
  mine = {first, count, ++tickets_, Claim::waiting};
  changed_.wait(lock, [&] { return mayHold(mine, other); });
  mine.state = Claim::held;
}

void UnitClaims::release(int lane) {
  check(lane == 0 || lane == 1, "a lane is 0 (prefill) or 1 (decode)");
  {
    const std::lock_guard lock(mutex_);
    claims_[lane].state = Claim::none;
  }
  changed_.notify_all();
}

bool UnitClaims::waits(int lane) {
  check(lane == 0 || lane == 1, "a lane is 0 (prefill) or 1 (decode)");
  const std::lock_guard lock(mutex_);
  return claims_[lane].state == Claim::waiting;
}

}  // namespace tandem::cpu
