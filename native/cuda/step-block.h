#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "core/error.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// The small arrays of a step, packed one after another and uploaded by one copy. Used again by the lane's
// next step, once this one has been waited for.
class StepBlock {
 public:
  StepBlock(std::size_t bytes, const char* purpose) : host_(bytes, purpose), device_(bytes, purpose) {}

  void clear() { used_ = uploaded_ = 0; }

  // Room for an array, to be filled before the upload.
  template <class T>
  std::span<T> add(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t begin = (used_ + kAlignment - 1) / kAlignment * kAlignment;
    if (begin + count * sizeof(T) > host_.bytes()) throw Error("a step has more entries than it may have");
    used_ = begin + count * sizeof(T);
    return {reinterpret_cast<T*>(host_.data() + begin), count};
  }

  template <class T>
  const T* onDevice(std::span<T> array) const {
    return reinterpret_cast<const T*>(device_.data() +
                                      (reinterpret_cast<const std::byte*>(array.data()) - host_.data()));
  }

  // What was added since the last upload.
  void upload(Stream stream) {
    copyToDevice(device_.data() + uploaded_, host_.data() + uploaded_, used_ - uploaded_, stream);
    uploaded_ = used_;
  }

 private:
  static constexpr std::size_t kAlignment = 16;

  PinnedMemory host_;
  DeviceMemory device_;
  std::size_t used_ = 0;
  std::size_t uploaded_ = 0;
};

}  // namespace tandem::cuda
