#pragma once

// What a kernel's file includes: CUDA and the instructions it has no C++ for, or, in tests without a GPU, the
// same names emulated on the host.

#if defined(TANDEM_CUDA_EMULATION)

#include "cuda-emulation.h"

#else

#include <cuda_runtime.h>

#include <cstddef>
#include <mutex>
#include <set>

#include "cuda/check.h"
#include "cuda/instructions.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Allows a kernel all the shared memory that its device gives to a block. Once for each: lanes launch the
// same kernels at the same time, and must not take from each other what they have asked for.
inline void allowShared(const char* name, const void* kernel) {
  static std::mutex mutex;
  static std::set<const void*> allowed;
  const std::lock_guard lock(mutex);
  if (allowed.contains(kernel)) return;
  int device = 0, most = 0;
  cudaFuncAttributes attributes{};
  checkCuda(cudaGetDevice(&device), name);
  checkCuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
  checkCuda(cudaFuncGetAttributes(&attributes, kernel), name);
  checkCuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 most - static_cast<int>(attributes.sharedSizeBytes)),
            name);
  allowed.insert(kernel);
}

template <class... Parameters, class... Arguments>
void enqueue(bool early, const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
             std::size_t sharedBytes, Stream stream, const Arguments&... arguments) {
  constexpr std::size_t kWithoutAsking = 48 << 10;
  if (sharedBytes > kWithoutAsking) allowShared(name, reinterpret_cast<const void*>(kernel));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = sharedBytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  checkCuda(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), name);
}

// Enqueues kernel(arguments...), with `sharedBytes` of dynamic shared memory. Throws Error, naming it, if it
// cannot be started.
template <class... Parameters, class... Arguments>
void launchShared(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
                  std::size_t sharedBytes, Stream stream, const Arguments&... arguments) {
  enqueue(false, name, kernel, grid, threads, sharedBytes, stream, arguments...);
}

// The same; the kernel begins when the one before it lets it (letNextKernelBegin) or ends, and waits itself,
// by waitForKernelsBefore in every block: were none to wait, it could end before the one in front of it, and
// what waits for it would begin. For kernels that are compiled for the device's own architecture, 9.0 or
// later.
template <class... Parameters, class... Arguments>
void launchEarly(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
                 std::size_t sharedBytes, Stream stream, const Arguments&... arguments) {
  enqueue(true, name, kernel, grid, threads, sharedBytes, stream, arguments...);
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream stream,
            const Arguments&... arguments) {
  launchShared(name, kernel, grid, threads, 0, stream, arguments...);
}

}  // namespace tandem::cuda

#endif
