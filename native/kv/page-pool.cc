#include "kv/page-pool.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "core/error.h"

namespace tandem {
namespace {

void checkRoom(const PageFormat& format, std::size_t bytes) {
  check(format.kvHeads > 0 && format.headDim > 0 && format.headDim % 16 == 0,
        "a KV page needs a head dimension that is a multiple of 16");
  if (bytes >= format.pageBytes()) return;
  throw Error("the KV cache of " + std::to_string(bytes) + " bytes holds no page of " +
              std::to_string(format.pageBytes()) + " bytes; raise --kv-memory");
}

}  // namespace

PagePool::PagePool(PageFormat format, std::unique_ptr<KvMemory> memory, PrecisionClass smallest)
    : format_(format), arena_(std::move(memory)) {
  checkRoom(format, arena_->bytes());
  const std::size_t pageBytes = format.pageBytes();
  chunkPages_ = static_cast<PageId>(kChunkPages * pageBytes / format.in(smallest).pageBytes());
  chunks_.resize((pages() + kChunkPages - 1) / kChunkPages);
  references_.assign(chunks_.size() * chunkPages_, 0);
  for (std::size_t i = chunks_.size(); i-- > 0;) {
    Chunk& chunk = chunks_[i];
    chunk.data = arena_->data() + i * kChunkPages * pageBytes;
    chunk.bytes = std::min(kChunkPages, pages() - i * kChunkPages) * pageBytes;
    idle_.push_back(static_cast<std::uint32_t>(i));
    countIdle(chunk, true);
  }
}

void PagePool::countIdle(const Chunk& chunk, bool idle) {
  for (const PrecisionClass precision : kHeldClasses) {
    const std::size_t pages = capacityOf(chunk, precision);
    available_[index(precision)] += idle ? pages : -pages;
  }
}

bool PagePool::openChunk(PrecisionClass precision) {
  // A chunk at the arena's end may be too small for a page of a larger class.
  const auto fits = std::find_if(idle_.rbegin(), idle_.rend(), [&](std::uint32_t chunk) {
    return capacityOf(chunks_[chunk], precision) > 0;
  });
  if (fits == idle_.rend()) return false;
  const std::uint32_t opened = *fits;
  idle_.erase(std::next(fits).base());
  Chunk& chunk = chunks_[opened];
  countIdle(chunk, false);
  chunk.precision = precision;
  const auto pages = static_cast<PageId>(capacityOf(chunk, precision));
  for (PageId page = pages; page-- > 0;) {
    chunk.free.push_back(static_cast<PageId>(opened) * chunkPages_ + page);
  }
  available_[index(precision)] += chunk.free.size();
  open_[index(precision)].insert(opened);
  return true;
}

void PagePool::closeChunk(std::uint32_t closed) {
  Chunk& chunk = chunks_[closed];
  open_[index(chunk.precision)].erase(closed);
  available_[index(chunk.precision)] -= chunk.free.size();
  chunk.free.clear();
  idle_.push_back(closed);
  countIdle(chunk, true);
}

PageId PagePool::take(PrecisionClass precision) {
  std::set<std::uint32_t>& open = open_[index(precision)];
  if (open.empty() && !openChunk(precision)) return -1;
  return takeFrom(*open.begin());
}

PageId PagePool::takeFrom(std::uint32_t from) {
  Chunk& chunk = chunks_[from];
  if (chunk.free.empty()) return -1;
  const std::size_t ofClass = index(chunk.precision);
  const PageId page = chunk.free.back();
  chunk.free.pop_back();
  ++chunk.used;
  if (chunk.free.empty()) open_[ofClass].erase(from);
  --available_[ofClass];
  heldBytes_[ofClass] += format_.in(chunk.precision).pageBytes();
  references_[page] = 1;
  return page;
}

PagePool::Gathering PagePool::gathering(PrecisionClass precision) const {
  const std::set<std::uint32_t>& open = open_[index(precision)];
  Gathering gathering{{}, {open.begin(), open.end()}};
  std::vector<std::uint32_t>& into = gathering.into;
  std::ranges::stable_sort(into, std::greater{}, [&](std::uint32_t chunk) { return chunks_[chunk].used; });
  std::size_t room = 0, moved = 0;
  for (const std::uint32_t chunk : into) room += chunks_[chunk].free.size();
  while (!into.empty()) {
    const Chunk& emptiest = chunks_[into.back()];
    room -= emptiest.free.size();
    moved += emptiest.used;
    if (moved > room) break;
    gathering.from.push_back(into.back());
    into.pop_back();
  }
  return gathering;
}

std::vector<PageId> PagePool::pagesInUse(std::uint32_t chunk) const {
  std::vector<PageId> pages;
  const PageId first = static_cast<PageId>(chunk) * chunkPages_;
  for (PageId page = first; page < first + chunkPages_; ++page) {
    if (references_[page] > 0) pages.push_back(page);
  }
  return pages;
}

void PagePool::addReference(PageId page) {
  check(references_.at(page) > 0, "a free page cannot be shared");
  ++references_[page];
}

void PagePool::release(PageId page) {
  check(references_.at(page) > 0, "a page was released more often than it was taken");
  if (--references_[page] > 0) return;
  const std::uint32_t to = chunkOf(page);
  Chunk& chunk = chunks_[to];
  heldBytes_[index(chunk.precision)] -= format_.in(chunk.precision).pageBytes();
  ++available_[index(chunk.precision)];
  chunk.free.push_back(page);
  open_[index(chunk.precision)].insert(to);
  if (--chunk.used == 0) closeChunk(to);
}

}  // namespace tandem
