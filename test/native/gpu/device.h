#pragma once

// The device that the programs of the GPU check run on. Where kernels are emulated it is the host, with a
// driver that divides eight units, so that all that surrounds the kernels can be run without a GPU.

#include <memory>
#include <string>

#include "core/error.h"
#include "gpu/shape.h"

#ifdef TANDEM_CUDA_EMULATION
#include "cuda/fake-driver.h"
#else
#include "cuda/driver.h"
#endif

namespace tandem::gpu {

struct OpenDevice {
  std::string name;
  std::string driverVersion;
  std::size_t memoryBytes = 0;
  std::unique_ptr<cuda::SplitDriver> driver;
};

#ifdef TANDEM_CUDA_EMULATION

inline OpenDevice openDevice() {
  return {"emulated on the host", "none", std::size_t{1} << 30,
          std::make_unique<test::FakeDriver>(cuda::SmLimits{8, 2, 2})};
}

#else

inline OpenDevice openDevice() {
  const cuda::CudaFacts facts = cuda::findCuda();
  if (facts.devices.empty()) throw Error("no GPU: " + facts.problem);
  const cuda::DeviceFacts& device = facts.devices[0];
  return {device.name, facts.driverVersion, device.memoryBytes, cuda::openDriver(0)};
}

#endif

}  // namespace tandem::gpu
