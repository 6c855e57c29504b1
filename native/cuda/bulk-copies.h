#pragma once

// Copies into shared memory that the device makes on its own, and the barriers that tell when they are done:
// 9.0 and later. The calls of one thread start copies for the whole block.

#if defined(TANDEM_CUDA_EMULATION)

#include "cuda-emulated-copies.h"

#else

#include <cstddef>
#include <cstdint>

#include "cuda/rows-map.h"

namespace tandem::cuda {

// In shared memory. A phase ends when all have arrived who are awaited and all bytes have that were expected;
// its parity is 0 for the first phase, and takes turns.
struct Barrier {
  std::uint64_t state;
};

__device__ inline std::uint32_t sharedAddress(const void* shared) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ inline void initialise(Barrier& barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(&barrier)), "r"(arrivals));
}
// Makes initialised barriers known to copies; a __syncthreads makes them known to threads.
__device__ inline void publishBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(&barrier)) : "memory");
}
__device__ inline void arriveExpecting(Barrier& barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(&barrier)),
               "r"(bytes)
               : "memory");
}
// Waits for the end of the phase of this parity.
__device__ inline void waitFor(Barrier& barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra ended;\n"
      "bra again;\n"
      "ended:\n"
      "}" ::"r"(sharedAddress(&barrier)),
      "r"(parity)
      : "memory");
}

// What threads have written to shared memory becomes visible to tensor cores.
__device__ inline void publishToTensorCores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A multiple of 16 bytes, both sides aligned to 16.
__device__ inline void copyBulk(void* shared, const void* global, unsigned bytes, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          sharedAddress(shared)),
      "l"(global), "r"(bytes), "r"(sharedAddress(&barrier))
      : "memory");
}

// A box to shared memory, in the 128-byte swizzle; zeros where it exceeds the matrix. Counts as boxRows * 128
// bytes. `shared` is aligned to 1024 bytes.
__device__ inline void copyBox(void* shared, const RowsMap& map, int row, int col, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];" ::"r"(sharedAddress(shared)),
      "l"(&map), "r"(col), "r"(row), "r"(sharedAddress(&barrier))
      : "memory");
}

}  // namespace tandem::cuda

#endif
