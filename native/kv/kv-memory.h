#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace tandem {

struct PageCopy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::size_t bytes = 0;
};

// The memory that KV pages lie in, owned, with those who move them. On a device with memory of its own the
// addresses are the device's, and only these functions and the backend's ops may follow them.
class KvMemory {
 public:
  virtual ~KvMemory() = default;
  virtual std::byte* data() const = 0;  // aligned to 64 bytes
  virtual std::size_t bytes() const = 0;

  // Copies pages within it. What is copied must be complete by now, and may be given away at once: the next
  // steps, and what is called here later, wait for the copy. Called by the thread that plans.
  virtual void copy(std::span<const PageCopy> copies) = 0;

  // Copies pages to host memory, where they lie one after another, or back, and returns when it is done.
  // Called by the thread that copies, while lanes work on other pages.
  virtual void toHost(std::span<const std::span<std::byte>> pages, std::byte* host) = 0;
  virtual void fromHost(const std::byte* host, std::span<const std::span<std::byte>> pages) = 0;
};

// In the host's own memory.
std::unique_ptr<KvMemory> allocateHostKv(std::size_t bytes);

}  // namespace tandem
