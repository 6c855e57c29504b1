#pragma once

// CUDA as it is found when the program runs. The driver is looked up then, so that the same binary loads on a
// machine without one.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "cuda/split-driver.h"

namespace tandem::cuda {

struct DeviceFacts {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;  // compute capability
  std::size_t memoryBytes = 0, l2Bytes = 0;
  SmLimits limits;
  std::string problem;     // why the kernels cannot run on it, and what to do; else empty
  std::string whyNoSplit;  // why lanes share it without green contexts; else empty
};

struct CudaFacts {
  std::string driverVersion;  // of CUDA, as in "13.0"; empty without a driver
  std::string runtimeVersion;
  std::string problem;  // why there is no device; else empty
  std::vector<DeviceFacts> devices;
};

// Never throws: what is wrong is a fact.
CudaFacts findCuda();

// The driver of one device, whose primary context it keeps. Throws Error if the device cannot be used.
std::unique_ptr<SplitDriver> openDriver(int device);

}  // namespace tandem::cuda
