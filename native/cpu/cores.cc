#include "cpu/cores.h"

#include <pthread.h>
#include <unistd.h>

#include <thread>

namespace tandem::cpu {

namespace {

std::vector<int> detect() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  // Of the process's first thread, since the calling one may be pinned already.
  if (sched_getaffinity(getpid(), sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  if (!cores.empty()) return cores;
  // More cores than the set has room for: number them from 0.
  for (int core = 0; core == 0 || core < static_cast<int>(std::thread::hardware_concurrency()); ++core) {
    cores.push_back(core);
  }
  return cores;
}

}  // namespace

const std::vector<int>& allowedCores() {
  static const std::vector<int> cores = detect();
  return cores;
}

AffinityGuard::AffinityGuard()
    : known_(pthread_getaffinity_np(pthread_self(), sizeof saved_, &saved_) == 0) {}

AffinityGuard::~AffinityGuard() {
  if (known_) pthread_setaffinity_np(pthread_self(), sizeof saved_, &saved_);
}

}  // namespace tandem::cpu
