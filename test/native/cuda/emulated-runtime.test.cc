#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>

#include "check.h"
#include "cuda/driver.h"
#include "cuda/runtime.h"

#ifdef TANDEM_CUDA_EMULATION

#include "cuda-emulated-runtime.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// Bytes of the host and the device, which differ.
struct Copied {
  Copied() {
    cuda::setBytes(device.data(), 1, device.bytes(), nullptr);
    std::memset(host.data(), 2, host.bytes());
  }
  cuda::DeviceMemory device{64, "a test"};
  cuda::PinnedMemory host{64, "a test"};
};

}  // namespace

TEST("cuda emulation: a copy that nobody waited for does not arrive in another device's stream") {
  const auto driver = cuda::openDriver(0), later = cuda::openDriver(0);
  Copied copied;
  cuda::copyToHost(copied.host.data(), copied.device.data(), 64, driver->createStream(nullptr, false));
  cuda::synchronize(later->createStream(nullptr, false));
  equal(static_cast<int>(*copied.host.data()), 2, "a byte of the host");
}

TEST("cuda emulation: a copy that nobody waited for ends with the memory it was for") {
  const cuda::OwnStream stream;
  std::optional<Copied> copied(std::in_place);
  cuda::copyToHost(copied->host.data(), copied->device.data(), 64, stream);
  copied.reset();
  cuda::synchronize(stream);
}

TEST("cuda emulation: an event may end before the device has reached it") {
  const cuda::OwnStream stream;
  const emulation::BusyDevice busy;
  cuda::Event().record(stream);
}

TEST("cuda emulation: host memory that is not pinned is read at once") {
  Copied copied;
  auto given = std::make_unique<std::byte[]>(64);
  {
    const emulation::BusyDevice busy;
    cuda::copyToDevice(copied.device.data(), given.get(), 64, nullptr);
    given.reset();
  }
  cuda::copyToHost(copied.host.data(), copied.device.data(), 64, nullptr);
  cuda::synchronize(nullptr);
  equal(static_cast<int>(*copied.host.data()), 0, "a byte of the device");
}

TEST("cuda emulation: a lost device does nothing of what waits") {
  Copied copied;
  std::optional<emulation::BusyDevice> busy(std::in_place);
  cuda::setBytes(copied.device.data(), 3, 64, nullptr);
  {
    const emulation::LostDevice lost;
    cuda::setBytes(copied.device.data(), 4, 64, nullptr);
    busy.reset();
  }
  cuda::copyToHost(copied.host.data(), copied.device.data(), 64, nullptr);
  cuda::synchronize(nullptr);
  equal(static_cast<int>(*copied.host.data()), 1, "a byte of the device");
}

#endif
