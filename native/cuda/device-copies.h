#pragma once

#include <cstddef>
#include <span>
#include <unordered_map>

#include "core/bf16.h"
#include "core/ops.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// The device's copies of values that the model holds, found by the address of the model's own. Filled while
// the model is loaded, and only read from then on.
class DeviceCopies {
 public:
  void add(std::span<const float> values, Stream stream);
  // As bf16, whatever the checkpoint has.
  void add(const CheckpointMatrix& table, Stream stream);

  // Null for none. Throws Error for values that were not added.
  const float* of(std::span<const float> values) const;
  const bf16* of(const CheckpointMatrix& table) const;

 private:
  const DeviceMemory& find(const void* address) const;

  std::unordered_map<const void*, DeviceMemory> copies_;
};

}  // namespace tandem::cuda
