// What code calls that is compiled by -fsanitize=thread: at every access that others might see, and instead
// of the host's atomic operations, which are what they are.

#include <cstdint>
#include <cstring>

#include "cuda-races.h"

using tandem::emulation::races::By;
using tandem::emulation::races::Does;

namespace {

void access(Does does, const void* address, std::size_t bytes, const void* site) {
  using namespace tandem::emulation::races;
  if (look.sees(address)) tandem::emulation::races::access(By::thread, does, address, bytes, site);
}

}  // namespace

#define TANDEM_ACCESS(name, does, bytes) \
  void name(void* address) { access(does, address, bytes, __builtin_return_address(0)); }
#define TANDEM_ACCESSES(bytes)                                   \
  TANDEM_ACCESS(__tsan_read##bytes, Does::read, bytes)           \
  TANDEM_ACCESS(__tsan_write##bytes, Does::write, bytes)         \
  TANDEM_ACCESS(__tsan_unaligned_read##bytes, Does::read, bytes) \
  TANDEM_ACCESS(__tsan_unaligned_write##bytes, Does::write, bytes)

#define TANDEM_FETCH(bits, operation)                                                           \
  std::uint##bits##_t __tsan_atomic##bits##_fetch_##operation(volatile std::uint##bits##_t* of, \
                                                              std::uint##bits##_t value, int) { \
    return __atomic_fetch_##operation(of, value, __ATOMIC_SEQ_CST);                             \
  }
#define TANDEM_COMPARE(bits, kind, isWeak)                                                               \
  bool __tsan_atomic##bits##_compare_exchange_##kind(volatile std::uint##bits##_t* of,                   \
                                                     std::uint##bits##_t* expected,                      \
                                                     std::uint##bits##_t value, int, int) {              \
    return __atomic_compare_exchange_n(of, expected, value, isWeak, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
#define TANDEM_ATOMICS(bits)                                                                           \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* of, int) {        \
    return __atomic_load_n(of, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                    \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* of, std::uint##bits##_t value, int) { \
    __atomic_store_n(of, value, __ATOMIC_SEQ_CST);                                                     \
  }                                                                                                    \
  std::uint##bits##_t __tsan_atomic##bits##_exchange(volatile std::uint##bits##_t* of,                 \
                                                     std::uint##bits##_t value, int) {                 \
    return __atomic_exchange_n(of, value, __ATOMIC_SEQ_CST);                                           \
  }                                                                                                    \
  TANDEM_FETCH(bits, add)                                                                              \
  TANDEM_FETCH(bits, sub)                                                                              \
  TANDEM_FETCH(bits, and)                                                                              \
  TANDEM_FETCH(bits, or)                                                                               \
  TANDEM_FETCH(bits, xor)                                                                              \
  TANDEM_COMPARE(bits, strong, false)                                                                  \
  TANDEM_COMPARE(bits, weak, true)

extern "C" {

TANDEM_ACCESSES(1)
TANDEM_ACCESSES(2)
TANDEM_ACCESSES(4)
TANDEM_ACCESSES(8)
TANDEM_ACCESSES(16)

void __tsan_read_range(void* address, std::size_t bytes) {
  access(Does::read, address, bytes, __builtin_return_address(0));
}
void __tsan_write_range(void* address, std::size_t bytes) {
  access(Does::write, address, bytes, __builtin_return_address(0));
}
void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) {
  access(Does::read, from, bytes, __builtin_return_address(0));
  access(Does::write, to, bytes, __builtin_return_address(0));
  return std::memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, std::size_t bytes) {
  access(Does::write, to, bytes, __builtin_return_address(0));
  return std::memset(to, value, bytes);
}
void* __tsan_memmove(void* to, const void* from, std::size_t bytes) {
  access(Does::read, from, bytes, __builtin_return_address(0));
  access(Does::write, to, bytes, __builtin_return_address(0));
  return std::memmove(to, from, bytes);
}

TANDEM_ATOMICS(8)
TANDEM_ATOMICS(16)
TANDEM_ATOMICS(32)
TANDEM_ATOMICS(64)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}

}  // extern "C"
