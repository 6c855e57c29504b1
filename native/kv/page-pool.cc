#include "kv/page-pool.h"

#include <sys/mman.h>

#include <string>

#include "core/error.h"

namespace tandem {
namespace {

std::byte* mapArena(std::size_t bytes) {
  void* data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    throw Error("the system refused " + std::to_string(bytes) + " bytes for the KV cache; lower --kv-memory");
  }
#if defined(MADV_HUGEPAGE)
  madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return static_cast<std::byte*>(data);
}

}  // namespace

void PagePool::Unmap::operator()(std::byte* data) const { munmap(data, bytes); }

PagePool::PagePool(PageFormat format, std::size_t bytes) : format_(format), arena_(nullptr, Unmap{0}) {
  check(format.kvHeads > 0 && format.headDim > 0 && format.headDim % 16 == 0,
        "a KV page needs a head dimension that is a multiple of 16");
  const std::size_t pages = bytes / format.pageBytes();
  if (pages == 0) {
    throw Error("the KV cache of " + std::to_string(bytes) + " bytes holds no page of " +
                std::to_string(format.pageBytes()) + " bytes; raise --kv-memory");
  }
  const std::size_t used = pages * format.pageBytes();
  arena_ = {mapArena(used), Unmap{used}};
  references_.assign(pages, 0);
  free_.reserve(pages);
  for (std::size_t page = pages; page-- > 0;) free_.push_back(static_cast<PageId>(page));
}

PageId PagePool::take() {
  if (free_.empty()) return -1;
  const PageId page = free_.back();
  free_.pop_back();
  references_[page] = 1;
  return page;
}

void PagePool::addReference(PageId page) {
  check(references_.at(page) > 0, "a free page cannot be shared");
  ++references_[page];
}

void PagePool::release(PageId page) {
  check(references_.at(page) > 0, "a page was released more often than it was taken");
  if (--references_[page] == 0) free_.push_back(page);
}

}  // namespace tandem
