#pragma once

// What a kernel's file includes: CUDA and the instructions it has no C++ for, or, in tests without a GPU, the
// same names emulated on the host.

#if defined(TANDEM_CUDA_EMULATION)

#include "cuda-emulation.h"

#else

#include <cuda_runtime.h>

#include "cuda/check.h"
#include "cuda/instructions.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Enqueues kernel(arguments...). Throws Error, naming it, if it cannot be started.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream stream,
            const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = stream;
  checkCuda(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), name);
}

}  // namespace tandem::cuda

#endif
