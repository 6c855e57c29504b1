#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/ops.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// Copies within KV memory that the planning thread has asked for, and who must come after them. They run
// beside the lanes, and nobody on the host waits.
class PlannedCopies {
 public:
  explicit PlannedCopies(int device) : device_(device) {}

  // Called by the planning thread.
  void copy(std::span<const PageCopy> copies);

  // How often there were copies so far: who has seen as many needs not wait.
  std::uint64_t count() const { return count_.load(std::memory_order_acquire); }
  // What is enqueued on `later` from now on comes after all copies asked for by now. Any thread.
  void holdBack(Stream later) const { done_.holdBack(later); }

 private:
  int device_;
  OwnStream stream_;
  Event done_;
  std::atomic<std::uint64_t> count_{0};
};

// KV pages on the device. Swapping goes through pinned memory, half of which the device copies while the host
// empties or fills the other.
class CudaKvMemory final : public KvMemory {
 public:
  CudaKvMemory(int device, std::size_t bytes, PlannedCopies& planned);

  std::byte* data() const override { return arena_.data(); }
  std::size_t bytes() const override { return arena_.bytes(); }
  void copy(std::span<const PageCopy> copies) override { planned_.copy(copies); }
  void toHost(std::span<const std::span<std::byte>> pages, std::byte* host) override;
  void fromHost(const std::byte* host, std::span<const std::span<std::byte>> pages) override;

 private:
  struct Half {
    PinnedMemory memory;
    Event copied;
    std::size_t bytes = 0;  // that wait to be copied out
    std::byte* host = nullptr;
  };

  void enter();
  std::size_t fitting(std::span<const std::span<std::byte>> pages) const;
  static void empty(Half& half);

  int device_;
  DeviceMemory arena_;
  PlannedCopies& planned_;
  OwnStream stream_;
  std::array<Half, 2> halves_;
};

}  // namespace tandem::cuda
