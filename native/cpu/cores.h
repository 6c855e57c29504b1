#pragma once

#include <sched.h>

#include <vector>

namespace tandem::cpu {

// The cores this process may run on (cgroup, taskset), ascending, at least one: as found at the first call.
const std::vector<int>& allowedCores();

// Puts the calling thread's affinity back on destruction. For code that leads a team on a thread it does not
// own.
class AffinityGuard {
 public:
  AffinityGuard();
  ~AffinityGuard();
  AffinityGuard(const AffinityGuard&) = delete;
  AffinityGuard& operator=(const AffinityGuard&) = delete;

 private:
  cpu_set_t saved_;
  bool known_;
};

}  // namespace tandem::cpu
