#include <algorithm>
#include <array>

#include "kv/kv-cache.h"

namespace tandem {

bool KvCache::compact(std::int64_t blocks) {
  std::array<PagePool::Gathering, kHeldClasses.size()> gatherings;
  std::vector<std::uint32_t> from;
  std::vector<bool> leaves(pool_.chunks());
  for (const PrecisionClass precision : kHeldClasses) {
    // What is free beside pages of the pool's own class is free already.
    if (precision == format().precision) continue;
    PagePool::Gathering& gathering = gatherings[static_cast<std::size_t>(precision)];
    gathering = pool_.gathering(precision);
    for (const std::uint32_t chunk : gathering.from) {
      from.push_back(chunk);
      leaves[chunk] = true;
    }
  }
  std::size_t pages = pool_.freePages();
  for (const std::uint32_t chunk : from) {
    pages += std::min(kChunkPages, pool_.pages() - chunk * kChunkPages);
  }
  const std::int64_t wanted = freeBlocks() + blocks;
  if (static_cast<std::int64_t>(pages / layers_) < wanted) return false;
  std::ranges::stable_sort(from, {}, [&](std::uint32_t chunk) { return pool_.usedBytes(chunk); });
  const std::vector<Holder> holders = holdersIn(leaves);
  bool cameFree = false;
  for (const std::uint32_t chunk : from) {
    if (freeBlocks() >= wanted) break;
    const PrecisionClass precision = pool_.classOf(pool_.pagesInUse(chunk).front());
    if (empty(chunk, gatherings[static_cast<std::size_t>(precision)].into, holders)) cameFree = true;
  }
  return cameFree;
}

// Those that may be changed, of pages in these chunks, by page.
std::vector<KvCache::Holder> KvCache::holdersIn(const std::vector<bool>& chunks) {
  std::vector<Holder> holders;
  const auto isIn = [&](PageId page) { return page != kGivenUp && chunks[pool_.chunkOf(page)]; };
  for (int slot = 0; slot < slots(); ++slot) {
    if (isInStep(slot) || at(slot).swapping || at(slot).converting) continue;
    const Sequence& sequence = mayRun(slot);
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      for (std::int64_t block = 0; block < blocksOf(sequence); ++block) {
        const PageId page = sequence.pages[layer][block];
        if (isIn(page)) holders.push_back({page, true, slot, layer, block});
      }
    }
  }
  for (std::size_t id = 0; id < published_.size(); ++id) {
    for (std::size_t layer = 0; layer < published_[id].size(); ++layer) {
      const PageId page = published_[id][layer];
      if (isIn(page)) holders.push_back({page, false, static_cast<std::int32_t>(id), layer, 0});
    }
  }
  std::ranges::sort(holders, {}, &Holder::page);
  return holders;
}

// False, and nothing changed, if someone has one of its pages who may not be changed now.
bool KvCache::empty(std::uint32_t chunk, std::span<const std::uint32_t> into,
                    std::span<const Holder> holders) {
  const std::vector<PageId> pages = pool_.pagesInUse(chunk);
  const auto holdersOf = [&](PageId page) {
    return std::ranges::equal_range(holders, page, {}, &Holder::page);
  };
  for (const PageId page : pages) {
    if (holdersOf(page).size() != pool_.references(page)) return false;
  }
  const PrecisionClass precision = pool_.classOf(pages.front());
  const std::size_t bytes = format().in(precision).pageBytes();
  std::vector<PageId> moved;
  std::vector<PageCopy> copies;
  for (auto target = into.begin(); moved.size() < pages.size();) {
    const PageId page = pool_.takeFrom(*target);
    if (page < 0) {
      ++target;
      continue;
    }
    copies.push_back({pool_.data(page), pool_.data(pages[moved.size()]), bytes});
    moved.push_back(page);
  }
  memory().copy(copies);
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (precision == PrecisionClass::far) far_.move(pages[i], moved[i]);
    for (const Holder& holder : holdersOf(pages[i])) {
      addReference(moved[i]);
      moveTo(moved[i], holder);
    }
    releasePage(moved[i]);  // the one that it was taken with
  }
  return true;
}

void KvCache::moveTo(PageId page, const Holder& holder) {
  if (holder.isSlot) {
    put(sequences_[holder.id], {holder.layer, holder.block, page});
    return;
  }
  PageId& held = published_[holder.id][holder.layer];
  releasePage(held);
  held = page;
}

}  // namespace tandem
