#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/runtime.h"

namespace tandem::cuda {

// What the probes of a step have found, on its way to the host: places on the device that kernels add to,
// each for one of the host's arrays. They come home together when the step ends, and before where there is no
// room for more.
class SaliencySums {
 public:
  explicit SaliencySums(std::size_t values);

  std::size_t room() const { return device_.bytes() / sizeof(std::uint32_t); }

  void clear();
  // Places for these arrays side by side, zeroed. Throws Error if they are more than `room()` together.
  std::uint32_t* place(std::span<const std::span<std::uint32_t>> arrays, Stream stream);
  // Waits for the stream and adds all that was found to the arrays.
  void bringHome(Stream stream);

 private:
  DeviceMemory device_;
  PinnedMemory host_;
  std::size_t used_ = 0;
  std::vector<std::span<std::uint32_t>> arrays_;  // side by side from the beginning on
};

}  // namespace tandem::cuda
