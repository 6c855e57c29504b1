#pragma once

#include <cstddef>

#if defined(__CUDACC__)
#define TANDEM_ON_BOTH __host__ __device__
#else
#define TANDEM_ON_BOTH
#endif

namespace tandem::cuda {

// The same address, of which a kernel's compiler then knows that it is one of global memory, the device's or
// the host's. It cannot see that of an address that was a number, or was itself read: then it takes
// instructions for any memory, and has what is read there wait for what was written to shared memory.
//
// Not for an address that a loop moves on, instead of indexing from it: nvcc 13.0 then compiles without end.
template <class T>
TANDEM_ON_BOTH T* inGlobalMemory(T* address) {
#if defined(__CUDA_ARCH__)
  return static_cast<T*>(__cvta_global_to_generic(reinterpret_cast<std::size_t>(address)));
#else
  return address;
#endif
}

}  // namespace tandem::cuda

#undef TANDEM_ON_BOTH
