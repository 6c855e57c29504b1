#pragma once

namespace tandem::emulation {

// While it lives, the emulated device is lost: whatever is asked of it fails as it does behind a kernel that
// read a wrong address.
class LostDevice {
 public:
  LostDevice();
  ~LostDevice();
  LostDevice(const LostDevice&) = delete;
  LostDevice& operator=(const LostDevice&) = delete;
};

// While it lives, the emulated device does nothing of what is enqueued from now on, in any stream, and who
// waits for that goes on waiting. It is done when this ends, in the order in which it was enqueued; pinned
// host memory is read and written only then.
class BusyDevice {
 public:
  BusyDevice();
  ~BusyDevice();
  BusyDevice(const BusyDevice&) = delete;
  BusyDevice& operator=(const BusyDevice&) = delete;

  // Blocks until so many launches of the kernel were enqueued. Throws Error if that takes too long.
  void awaitLaunches(const char* kernel, int count = 1) const;
  int launchesOf(const char* kernel) const;
  // Does what was enqueued up to the next event that tells no time, as a lane's step ends with. Throws Error
  // if none is enqueued for too long.
  void doStep();
};

}  // namespace tandem::emulation
