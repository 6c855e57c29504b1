#include "kv/kv-memory.h"

#include <cstring>

#include "kv/host-memory.h"

namespace tandem {
namespace {

class HostKvMemory final : public KvMemory {
 public:
  explicit HostKvMemory(std::size_t bytes) : memory_(bytes, "the KV cache; lower --kv-memory") {}

  std::byte* data() const override { return memory_.data(); }
  std::size_t bytes() const override { return memory_.bytes(); }

  void copy(std::span<const PageCopy> copies) override {
    for (const PageCopy& copy : copies) std::memcpy(copy.to, copy.from, copy.bytes);
  }

  void toHost(std::span<const std::span<std::byte>> pages, std::byte* host) override {
    for (const std::span<std::byte> page : pages) {
      std::memcpy(host, page.data(), page.size());
      host += page.size();
    }
  }

  void fromHost(const std::byte* host, std::span<const std::span<std::byte>> pages) override {
    for (const std::span<std::byte> page : pages) {
      std::memcpy(page.data(), host, page.size());
      host += page.size();
    }
  }

 private:
  HostMemory memory_;
};

}  // namespace

std::unique_ptr<KvMemory> allocateHostKv(std::size_t bytes) { return std::make_unique<HostKvMemory>(bytes); }

}  // namespace tandem
