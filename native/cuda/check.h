#pragma once

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// Throws Error, or DeviceLost, saying that `what` failed and why, unless it did not fail.
void checkCuda(cudaError_t error, const char* what);

}  // namespace tandem::cuda
