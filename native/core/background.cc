#include "core/background.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#endif

namespace tandem {

void runInBackground() {
#if defined(__linux__)
  // There both are the thread's own. The nice value is for those who look at it, and where the policy is
  // refused.
  setpriority(PRIO_PROCESS, 0, 19);
  const sched_param none{};
  sched_setscheduler(0, SCHED_IDLE, &none);
#endif
}

void lowerPriority([[maybe_unused]] int nice) {
#if defined(__linux__)
  setpriority(PRIO_PROCESS, 0, nice);  // the calling thread's own
#endif
}

}  // namespace tandem
