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

}  // namespace tandem::emulation
