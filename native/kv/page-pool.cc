#include "kv/page-pool.h"

#include <string>

#include "core/error.h"

namespace tandem {
namespace {

// Bytes of whole pages.
std::size_t arenaBytes(const PageFormat& format, std::size_t bytes) {
  check(format.kvHeads > 0 && format.headDim > 0 && format.headDim % 16 == 0,
        "a KV page needs a head dimension that is a multiple of 16");
  const std::size_t pages = bytes / format.pageBytes();
  if (pages == 0) {
    throw Error("the KV cache of " + std::to_string(bytes) + " bytes holds no page of " +
                std::to_string(format.pageBytes()) + " bytes; raise --kv-memory");
  }
  return pages * format.pageBytes();
}

}  // namespace

PagePool::PagePool(PageFormat format, std::size_t bytes)
    : format_(format), arena_(arenaBytes(format, bytes), "the KV cache; lower --kv-memory") {
  const std::size_t pages = arena_.bytes() / format.pageBytes();
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
