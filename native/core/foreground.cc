#include "core/foreground.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace tandem {

#if defined(__linux__)
namespace {

// The first form of the kernel's sched_attr, which not every C library has.
struct SchedulingAttributes {
  std::uint32_t bytes = sizeof(SchedulingAttributes);
  std::uint32_t policy = SCHED_OTHER;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t slice = 0;  // ns
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

// The least that the system grants.
constexpr std::uint64_t kSlice = 100'000;

}  // namespace
#endif

void runInForeground() {
#if defined(__linux__)
  SchedulingAttributes attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;
  attributes.slice = kSlice;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
#endif
}

}  // namespace tandem
