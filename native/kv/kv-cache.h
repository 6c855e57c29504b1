#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "kv/page-pool.h"

namespace tandem {

// The page tables of all slots, over one pool. A *block* is the pages of all layers for the same kPageTokens
// tokens; the tables of a slot grow by blocks. Full blocks may be published: then they are immutable, outlive
// the slot, and other slots start with them.
//
// Called by the thread that plans steps. A slot in flight (its step is running) must be left alone: `pagesOf`
// is being read, and its last pages written, by a lane.
class KvCache {
 public:
  KvCache(PageFormat format, int layers, int slots, std::size_t bytes);

  const PageFormat& format() const { return pool_.format(); }
  std::size_t blockBytes() const { return layers_ * pool_.format().pageBytes(); }
  std::int64_t totalBlocks() const { return static_cast<std::int64_t>(pool_.pages() / layers_); }
  std::int64_t freeBlocks() const { return static_cast<std::int64_t>(pool_.freePages() / layers_); }
  int slots() const { return static_cast<int>(sequences_.size()); }

  // Makes room for `tokens` tokens in all. False, and nothing changed, if memory is out.
  bool reserve(int slot, std::int64_t tokens);
  std::int64_t length(int slot) const { return at(slot).length; }
  std::int64_t reserved(int slot) const;
  void release(int slot);

  std::int32_t publish(int slot, std::int64_t index);
  void attach(int slot, std::span<const std::int32_t> blocks);
  void unpublish(std::span<const std::int32_t> blocks);
  bool fork(int from, int to, std::int64_t tokens);

  // Marks the slot as in flight until `finishStep`, which a lane may call. `appended`: tokens the step has
  // added.
  void startStep(int slot);
  void finishStep(int slot, std::int64_t appended);
  bool inFlight(int slot) const { return at(slot).inFlight.load(std::memory_order_acquire); }

  // The addresses of a slot's pages in one layer.
  std::span<std::byte* const> pagesOf(int slot, int layer) const { return at(slot).addresses[layer]; }

 private:
  struct Sequence {
    std::vector<std::vector<PageId>> pages;          // [layer][block]
    std::vector<std::vector<std::byte*>> addresses;  // the same pages
    std::int64_t length = 0;
    std::atomic<bool> inFlight{false};
  };

  const Sequence& at(int slot) const;
  Sequence& idle(int slot);  // throws if the slot is in flight
  std::vector<PageId> takeBlock();
  void append(Sequence& sequence, std::span<const PageId> block);
  std::int64_t blocksOf(const Sequence& sequence) const {
    return static_cast<std::int64_t>(sequence.pages[0].size());
  }

  std::size_t layers_;
  PagePool pool_;
  std::deque<Sequence> sequences_;              // by slot; a deque, since an atomic does not move
  std::vector<std::vector<PageId>> published_;  // by block id; empty: the id is free
  std::vector<std::int32_t> freeIds_;
};

}  // namespace tandem
