#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kv/host-memory.h"
#include "kv/page-format.h"

namespace tandem {

using PageId = std::int32_t;

// All KV memory: one arena, taken from the system once and touched only where pages are used, cut into pages
// of one format. A page is given out with one reference and comes back when the last is released. Running out
// is an answer
// (`take` returns -1), not an error.
//
// Not thread-safe: the thread that plans steps owns it. Lanes read and write page bytes only.
class PagePool {
 public:
  PagePool(PageFormat format, std::size_t bytes);

  const PageFormat& format() const { return format_; }
  std::size_t pages() const { return references_.size(); }
  std::size_t freePages() const { return free_.size(); }

  PageId take();
  void addReference(PageId page);
  void release(PageId page);
  std::uint32_t references(PageId page) const { return references_[page]; }

  std::byte* data(PageId page) const { return arena_.data() + page * format_.pageBytes(); }

 private:
  PageFormat format_;
  HostMemory arena_;
  std::vector<std::uint32_t> references_;
  std::vector<PageId> free_;  // a stack: the page released last is the likeliest to be in a cache
};

}  // namespace tandem
