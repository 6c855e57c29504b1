#include "kv/host-memory.h"

#include <sys/mman.h>

#include <string>

#include "core/error.h"

namespace tandem {

void HostMemory::Unmap::operator()(std::byte* data) const { munmap(data, bytes); }

HostMemory::HostMemory(std::size_t bytes, const char* purpose) : data_(nullptr, Unmap{bytes}) {
  if (bytes == 0) return;
  void* data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    throw Error("the system refused " + std::to_string(bytes) + " bytes for " + purpose);
  }
#if defined(MADV_HUGEPAGE)
  madvise(data, bytes, MADV_HUGEPAGE);
#endif
  data_.reset(static_cast<std::byte*>(data));
}

}  // namespace tandem
