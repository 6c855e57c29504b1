#include "cuda/cuda-kv-memory.h"

#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"

namespace tandem::cuda {
namespace {

// Enough that a copy's start costs little of it, and dozens of pages.
constexpr std::size_t kHalfBytes = std::size_t{16} << 20;

}  // namespace

void PlannedCopies::copy(std::span<const PageCopy> copies) {
  useDevice(device_);
  for (const PageCopy& copy : copies) copyOnDevice(copy.to, copy.from, copy.bytes, stream_);
  done_.record(stream_);
  count_.fetch_add(1, std::memory_order_release);
}

CudaKvMemory::CudaKvMemory(int device, std::size_t bytes, PlannedCopies& planned)
    : device_(device), arena_(bytes, "the KV cache; lower --kv-memory"), planned_(planned) {
  for (Half& half : halves_) half.memory = PinnedMemory(kHalfBytes, "swapping KV");
}

void CudaKvMemory::enter() {
  useDevice(device_);
  planned_.holdBack(stream_);
}

std::size_t CudaKvMemory::fitting(std::span<const std::span<std::byte>> pages) const {
  std::size_t count = 0, bytes = 0;
  while (count < pages.size() && bytes + pages[count].size() <= kHalfBytes) bytes += pages[count++].size();
  check(count > 0, "a KV page is larger than what pages are swapped through");
  return count;
}

void CudaKvMemory::empty(Half& half) {
  if (half.bytes == 0) return;
  half.copied.wait();
  std::memcpy(half.host, half.memory.data(), half.bytes);
  half.bytes = 0;
}

void CudaKvMemory::toHost(std::span<const std::span<std::byte>> pages, std::byte* host) {
  enter();
  for (int turn = 0; !pages.empty(); turn ^= 1) {
    Half& half = halves_[turn];
    empty(half);
    half.host = host;
    const std::size_t count = fitting(pages);
    for (const std::span<std::byte> page : pages.first(count)) {
      copyToHost(half.memory.data() + half.bytes, page.data(), page.size(), stream_);
      half.bytes += page.size();
    }
    half.copied.record(stream_);
    host += half.bytes;
    pages = pages.subspan(count);
  }
  for (Half& half : halves_) empty(half);
}

void CudaKvMemory::fromHost(const std::byte* host, std::span<const std::span<std::byte>> pages) {
  enter();
  for (int turn = 0; !pages.empty(); turn ^= 1) {
    Half& half = halves_[turn];
    half.copied.wait();  // what it held before is on the device
    std::byte* at = half.memory.data();
    const std::size_t count = fitting(pages);
    for (const std::span<std::byte> page : pages.first(count)) {
      std::memcpy(at, host, page.size());
      copyToDevice(page.data(), at, page.size(), stream_);
      at += page.size();
      host += page.size();
    }
    half.copied.record(stream_);
    pages = pages.subspan(count);
  }
  synchronize(stream_);
}

}  // namespace tandem::cuda
