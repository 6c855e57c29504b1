#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include "kv/kv-memory.h"
#include "kv/page-format.h"

namespace tandem {

using PageId = std::int32_t;

// Of the pool's own format, in a chunk: enough that pages of a smaller class leave little of it unused (31 of
// int8, 55 of int4, 97 of int2 fit into 16 of bf16 with heads of 128), few enough that a class that is hardly
// used holds little.
inline constexpr std::size_t kChunkPages = 16;

// All KV memory: one arena, taken from the backend once. It is cut into
// chunks; a chunk is cut into pages of one class while any of them is in use, and may serve another class
// afterwards. A page is given out with one reference and comes back when the last is released. Running out is
// an answer (`take` returns -1), not an error.
//
// Not thread-safe: the thread that plans steps owns it. Lanes read and write page bytes only.
class PagePool {
 public:
  // Of `format` as many pages as the memory can hold fit; of other classes a few less than that, since chunks
  // are cut for this one. `smallest`: the smallest class that pages are to be taken of. Of outlines so many
  // fit into a chunk that the ids of pages, which cost a few bytes each, would be several times as many.
  PagePool(PageFormat format, std::unique_ptr<KvMemory> memory,
           PrecisionClass smallest = PrecisionClass::int2);

  const PageFormat& format() const { return format_; }
  // Of `format`, if all memory were theirs.
  std::size_t pages() const { return arena_->bytes() / format_.pageBytes(); }

  // How many pages of a class could be taken now.
  std::size_t freePages(PrecisionClass precision) const { return available_[index(precision)]; }
  std::size_t freePages() const { return freePages(format_.precision); }

  std::size_t bytes() const { return pages() * format_.pageBytes(); }
  KvMemory& memory() const { return *arena_; }
  // Of pages in use, of all classes or of one.
  std::size_t heldBytes() const {
    return std::accumulate(heldBytes_.begin(), heldBytes_.end(), std::size_t{0});
  }
  std::size_t heldBytes(PrecisionClass precision) const { return heldBytes_[index(precision)]; }

  PageId take(PrecisionClass precision);
  PageId take() { return take(format_.precision); }
  void addReference(PageId page);
  void release(PageId page);
  std::uint32_t references(PageId page) const { return references_[page]; }

  // How pages of one class that lie scattered could be moved together, so that chunks come to be empty.
  struct Gathering {
    std::vector<std::uint32_t> from;  // the emptiest chunks first; their pages fit into those of `into`
    std::vector<std::uint32_t> into;  // the fullest first
  };
  Gathering gathering(PrecisionClass precision) const;
  std::size_t usedBytes(std::uint32_t chunk) const {
    return chunks_[chunk].used * format_.in(chunks_[chunk].precision).pageBytes();
  }
  std::vector<PageId> pagesInUse(std::uint32_t chunk) const;
  // A page of this chunk, whose class it has; -1 if it is full.
  PageId takeFrom(std::uint32_t chunk);
  std::size_t chunks() const { return chunks_.size(); }
  std::uint32_t chunkOf(PageId page) const { return static_cast<std::uint32_t>(page / chunkPages_); }

  PrecisionClass classOf(PageId page) const { return chunks_[page / chunkPages_].precision; }
  std::byte* data(PageId page) const {
    const Chunk& chunk = chunks_[page / chunkPages_];
    return chunk.data + page % chunkPages_ * format_.in(chunk.precision).pageBytes();
  }

 private:
  struct Chunk {
    std::byte* data = nullptr;
    std::size_t bytes = 0;
    PrecisionClass precision = PrecisionClass::bf16;  // while it is open
    std::uint32_t used = 0;                           // pages given out
    std::vector<PageId> free;  // a stack: the page released last is the likeliest in a cache
  };

  static std::size_t index(PrecisionClass precision) { return static_cast<std::size_t>(precision); }
  std::size_t capacityOf(const Chunk& chunk, PrecisionClass precision) const {
    return std::min(static_cast<std::size_t>(chunkPages_), chunk.bytes / format_.in(precision).pageBytes());
  }
  bool openChunk(PrecisionClass precision);
  void closeChunk(std::uint32_t chunk);
  void countIdle(const Chunk& chunk, bool idle);

  PageFormat format_;
  std::unique_ptr<KvMemory> arena_;
  std::array<std::size_t, kHeldClasses.size()> heldBytes_{};  // by class
  PageId chunkPages_ = 0;                  // page ids a chunk has: as many as it holds of the smallest class
  std::vector<std::uint32_t> references_;  // by page id
  std::vector<Chunk> chunks_;
  std::vector<std::uint32_t> idle_;  // chunks without pages in use
  // With some free, by class. Pages are taken from the first, so that the last ones come to be empty and can
  // serve another class.
  std::array<std::set<std::uint32_t>, kHeldClasses.size()> open_;
  std::array<std::size_t, kHeldClasses.size()> available_{};  // see freePages
};

}  // namespace tandem
