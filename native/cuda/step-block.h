#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <type_traits>

#include "core/error.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// The small arrays of a step, packed one after another and uploaded by one copy. The device has one block:
// the next step's upload comes behind the kernels of this one, on the same stream, so recorded kernels find
// their arrays where they were. The host has two, since it fills one while the device may still have to read
// the other.
class StepBlock {
 public:
  StepBlock(std::size_t bytes, const char* purpose)
      : hosts_{PinnedMemory(bytes, purpose), PinnedMemory(bytes, purpose)}, device_(bytes, purpose) {}

  // What was added before the last `clear` may still be on its way; all before must have been uploaded.
  void clear() {
    used_ = uploaded_ = 0;
    half_ ^= 1;
  }

  // Room for an array, to be filled before the upload.
  template <class T>
  std::span<T> add(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t begin = (used_ + kAlignment - 1) / kAlignment * kAlignment;
    if (begin + count * sizeof(T) > device_.bytes()) throw Error("a step has more entries than it may have");
    used_ = begin + count * sizeof(T);
    return {reinterpret_cast<T*>(host() + begin), count};
  }

  template <class T>
  T* onDevice(std::span<T> array) const {
    return reinterpret_cast<T*>(device_.data() + (reinterpret_cast<const std::byte*>(array.data()) - host()));
  }

  // What was added since the last upload.
  void upload(Stream stream) {
    copyToDevice(device_.data() + uploaded_, host() + uploaded_, used_ - uploaded_, stream);
    uploaded_ = used_;
  }

 private:
  static constexpr std::size_t kAlignment = 16;

  std::byte* host() const { return hosts_[half_].data(); }

  std::array<PinnedMemory, 2> hosts_;
  DeviceMemory device_;
  std::size_t half_ = 0;
  std::size_t used_ = 0;
  std::size_t uploaded_ = 0;
};

}  // namespace tandem::cuda
