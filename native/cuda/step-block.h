#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <ranges>
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

  // An array of these values, or of what `of` makes of them. Returns where it lies on the device once it is
  // uploaded.
  template <std::ranges::sized_range Values, class Of = std::identity>
  auto* add(const Values& values, Of of = {}) {
    using T = std::remove_cvref_t<std::invoke_result_t<Of&, std::ranges::range_reference_t<const Values>>>;
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t begin = (used_ + kAlignment - 1) / kAlignment * kAlignment;
    const std::size_t bytes = std::ranges::size(values) * sizeof(T);
    if (begin + bytes > device_.bytes()) throw Error("a step has more entries than it may have");
    used_ = begin + bytes;
    std::ranges::transform(values, reinterpret_cast<T*>(hosts_[half_].data() + begin), of);
    return reinterpret_cast<T*>(device_.data() + begin);
  }

  // What was added since the last upload.
  void upload(Stream stream) {
    copyToDevice(device_.data() + uploaded_, hosts_[half_].data() + uploaded_, used_ - uploaded_, stream);
    uploaded_ = used_;
  }

 private:
  static constexpr std::size_t kAlignment = 16;

  std::array<PinnedMemory, 2> hosts_;
  DeviceMemory device_;
  std::size_t half_ = 0;
  std::size_t used_ = 0;
  std::size_t uploaded_ = 0;
};

}  // namespace tandem::cuda
