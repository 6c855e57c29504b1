#pragma once

#include <memory>

#include "core/ops.h"

namespace tandem::cuda {

struct CudaOptions {
  int device = 0;
  double memoryFraction = 0.9;  // of what is free on the device when it opens
};

// A backend on a CUDA device. Throws Error if there is none, or its driver or architecture is too old.
std::unique_ptr<Backend> makeCudaBackend(const CudaOptions& options);

}  // namespace tandem::cuda
