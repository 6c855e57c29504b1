#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/ops.h"
#include "kv/copy-thread.h"
#include "kv/far-pages.h"
#include "kv/page-pool.h"
#include "kv/swap-space.h"

namespace tandem {

// The page tables of all slots, over one pool. A *block* is the pages of all layers for the same kPageTokens
// tokens; the tables of a slot grow by blocks. Full blocks may be published: then they are immutable, outlive
// the slot, and other slots start with them.
//
// Called by the thread that plans steps. A slot in flight (its step is running, or it is being swapped) must
// be left alone: its pages are being read or written by a lane or a copy, and while a step runs its tables
// are the lane's. It may grow, though: what it is given then lies beside the tables until a step that follows
// takes it up, or none runs. One that is being converted may run steps and grow meanwhile, since a full page
// is only read; it must not be emptied. Whoever tries is told so.
class KvCache {
 public:
  // `far`: for far pages; none: no page becomes one.
  KvCache(PageFormat format, int layers, int slots, std::unique_ptr<KvMemory> memory, FarMemory far = {});

  const PageFormat& format() const { return pool_.format(); }
  std::size_t blockBytes() const { return blockBytes(format().precision); }
  std::size_t blockBytes(PrecisionClass precision) const {
    return layers_ * format().in(precision).pageBytes();
  }
  // Blocks of the pool's format that lie together and serve one class at a time, rounded up.
  std::int64_t chunkBlocks() const {
    return static_cast<std::int64_t>((kChunkPages + layers_ - 1) / layers_);
  }
  std::int64_t totalBlocks() const { return static_cast<std::int64_t>(pool_.pages() / layers_); }
  std::int64_t freeBlocks() const { return static_cast<std::int64_t>(pool_.freePages() / layers_); }
  // Blocks that can be far, and that could become so: for what places there are.
  std::int64_t farBlocks() const { return static_cast<std::int64_t>(far_.places() / layers_); }
  std::int64_t freeFarBlocks() const { return static_cast<std::int64_t>(far_.freePlaces() / layers_); }
  std::size_t heldBytes() const { return pool_.heldBytes(); }  // of pages in use, whatever their class
  std::size_t heldBytes(PrecisionClass precision) const { return pool_.heldBytes(precision); }
  KvMemory& memory() const { return pool_.memory(); }
  int slots() const { return static_cast<int>(sequences_.size()); }

  // Makes room for `tokens` tokens in all, in the pool's format or a smaller one that takes tokens one by
  // one. False, and nothing changed, if memory is out. While a step of the slot runs, the room is for the one
  // that follows it.
  bool reserve(int slot, std::int64_t tokens, PrecisionClass precision);
  bool reserve(int slot, std::int64_t tokens) { return reserve(slot, tokens, format().precision); }
  std::int64_t length(int slot) const { return at(slot).length; }
  std::int64_t reserved(int slot) const { return at(slot).blocks * kPageTokens; }
  // Tokens that it will hold when its steps in flight are done.
  std::int64_t plannedLength(int slot) const;
  void release(int slot);

  std::int32_t publish(int slot, std::int64_t index);
  // `dropped`: so many more tokens its sequence had, which it gave up before it left these blocks.
  void attach(int slot, std::span<const std::int32_t> blocks, std::int64_t dropped = 0);
  void unpublish(std::span<const std::int32_t> blocks);
  bool fork(int from, int to, std::int64_t tokens);
  // The published block, of the same tokens in whatever class, takes the place of the slot's full block
  // `index`.
  void replace(int slot, std::int64_t index, std::int32_t block);

  // Gives up a slot's full blocks [begin, end): those behind them move up in its table, and it counts their
  // tokens as dropped. What shares their pages keeps them.
  void drop(int slot, std::int64_t begin, std::int64_t end);
  std::int64_t dropped(int slot) const { return at(slot).dropped; }
  PagePartitions partitionsOf(int slot, const PageSelection& selection) const;

  // Marks the slot as in flight until `finishStep`, which a lane may call. `tokens`: so many the step is to
  // add; `appended`: so many it has.
  void startStep(int slot, std::int64_t tokens);
  void finishStep(int slot, std::int64_t appended);

  // The same for a step that waits behind the one in which the slot may be. What it was given meanwhile goes
  // with that step, whose lane puts it into the tables before it begins.
  std::vector<PageId> followStep(int slot, std::int64_t tokens);
  void takeUp(int slot, std::span<const PageId> pages);
  // The step that was to follow will not.
  void withdrawStep(int slot, std::int64_t tokens, std::span<const PageId> pages);
  // Throws if the slot is being swapped.
  void checkMayFollow(int slot) const;
  bool isInStep(int slot) const { return at(slot).steps.load(std::memory_order_acquire) > 0; }

  // Throws if the slot is in flight.
  void checkMayRun(int slot) const;
  // Throws if the page is being converted that a step would write to.
  void checkTakesTokens(int slot) const;

  // A slot's KV moves to host memory, or back into an empty slot. Between the start and `finishSwap` someone
  // runs the copies, on any thread; so long the slot is in flight.
  struct Swap {
    SwapId id;
    PageCopies copies;
  };
  // Of the pages that hold tokens, shared ones too. Afterwards the slot is empty, with nothing reserved.
  Swap startSwapOut(int slot);
  // Nothing, and nothing changed, if memory is out. Afterwards the slot holds the tokens, on pages of its
  // own, and the id is no more.
  std::optional<Swap> startSwapIn(int slot, SwapId id);
  // What these return is no longer needed and for the caller to free; may be null.
  std::shared_ptr<HostMemory> finishSwap(int slot);
  std::shared_ptr<HostMemory> dropSwapped(SwapId id);

  std::int64_t swappedTokens(SwapId id) { return swaps_.at(id).tokens; }
  std::size_t swappedBytes(SwapId id) { return swaps_.at(id).memory->bytes(); }
  std::size_t swappedBytes() const { return swaps_.bytes(); }

  // A slot's full blocks [begin, end) are written again in other classes: classes [end - begin, layers] has
  // each page's. Pages of their class or a smaller one stay as they are, and so do packed ones, but that an
  // int4 one becomes far; one whose class is `none` is given up. After the start someone has a backend
  // requantize them, on any thread, while the slot goes on with the old ones, and says so by
  // `conversionWritten`. The last block may be partly filled where its pages do not become packed ones; then
  // no step may run. Then, when no step of the slot runs, `finishConversion` puts the new pages in their
  // places, and the old ones stay with whoever else shares them; or `dropConversion` gives the new ones back.
  // Nothing, and nothing changed, if memory is out, here or for far pages: for a while there are both.
  std::optional<std::vector<PageConversion>> startConversion(int slot, std::int64_t begin, std::int64_t end,
                                                             std::span<const PrecisionClass> classes);
  void conversionWritten(int slot) { sequences_[slot].written.store(true, std::memory_order_release); }
  void finishConversion(int slot);
  void dropConversion(int slot);

  // Pages serve one class by chunks, so what sequences leave behind lies scattered over chunks that others
  // still use. Moves pages of slots that are idle, and published ones, together until `blocks` more blocks
  // are free; fewer come free where too much is in use. False, and nothing changed, if not so many lie
  // scattered.
  bool compact(std::int64_t blocks);

  // A slot's pages in one layer.
  KvView viewOf(int slot, int layer) const {
    const Sequence& sequence = at(slot);
    return {format(), sequence.addresses[layer], sequence.classes[layer], layer};
  }
  KvTable tableOf(int slot) const {
    const Sequence& sequence = at(slot);
    return {slot, sequence.version, sequence.addresses, sequence.classes};
  }
  std::span<std::byte* const> pagesOf(int slot, int layer) const { return at(slot).addresses[layer]; }

 private:
  struct Swapping {
    SwapId id;
    bool out;
  };

  // What takes the place of a page once it is written.
  struct Replacement {
    std::size_t layer;
    std::int64_t block;
    PageId page;
  };

  // Who has a page in a table: a slot, or a published block.
  struct Holder {
    PageId page;
    bool isSlot;
    std::int32_t id;
    std::size_t layer;
    std::int64_t block;  // of a slot
  };

  static std::int64_t blocksFor(std::int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

  static constexpr PageId kGivenUp = -1;
  // As the pool's, of pages that may have been given up.
  void addReference(PageId page) {
    if (page != kGivenUp) pool_.addReference(page);
  }
  void releasePage(PageId page);
  std::byte* dataOf(PageId page) const { return page == kGivenUp ? nullptr : pool_.data(page); }
  PrecisionClass classOf(PageId page) const {
    return page == kGivenUp ? PrecisionClass::none : pool_.classOf(page);
  }

  struct Sequence {
    std::vector<std::vector<PageId>> pages;          // [layer][block]
    std::vector<std::vector<std::byte*>> addresses;  // of the same pages
    std::vector<std::vector<PrecisionClass>> classes;
    std::int64_t length = 0;    // tokens held
    std::int64_t planned = 0;   // tokens held after its steps; only while it is in one
    std::int64_t dropped = 0;   // tokens that were held before them
    std::int64_t blocks = 0;    // in the tables, and given to it since
    std::uint64_t version = 0;  // see KvTable
    std::atomic<int> steps{0};  // that it is in: one that runs, and one that follows
    // [blocks][layers] that are not in the tables yet, which a lane may be reading.
    std::vector<PageId> given;
    std::optional<Swapping> swapping;
    std::optional<std::vector<Replacement>> converting;
    bool convertsTail = false;         // a page that is not full among them
    std::atomic<bool> written{false};  // the pages that it is being converted to
  };

  const Sequence& at(int slot) const;
  Sequence& mayRun(int slot);
  Sequence& idle(int slot);  // neither in flight nor being converted
  std::vector<Replacement> endConversion(int slot);
  std::vector<Holder> holdersIn(const std::vector<bool>& chunks);
  bool empty(std::uint32_t chunk, std::span<const std::uint32_t> into, std::span<const Holder> holders);
  void moveTo(PageId page, const Holder& holder);
  void put(Sequence& sequence, const Replacement& replacement);
  std::span<const PageId> publishedBlock(std::int32_t id) const;
  void releasePages(Sequence& sequence);
  // Those of its blocks [0, blocks) that are far, each with a reference.
  std::vector<FarPages::Place> sharePlaces(const Sequence& sequence, std::int64_t blocks);
  std::shared_ptr<HostMemory> removeSwapped(SwapId id);
  PageCopies copiesOf(const Sequence& sequence, std::int64_t blocks, SwapId id, bool toHost);
  std::vector<PrecisionClass> classesOf(const Sequence& sequence, std::int64_t first, std::int64_t end) const;
  // A page of each class, in order, `kGivenUp` for `none`; nothing, and nothing changed, if memory is out.
  // Outlines have no places yet.
  std::optional<std::vector<PageId>> take(std::span<const PrecisionClass> classes);
  // A block for the planning thread's count and the tables, or for the tables alone.
  void append(Sequence& sequence, std::span<const PageId> block);
  void tabulate(Sequence& sequence, std::span<const PageId> block);
  std::int64_t blocksOf(const Sequence& sequence) const {
    return static_cast<std::int64_t>(sequence.pages[0].size());
  }

  std::size_t layers_;
  PagePool pool_;
  FarPages far_;
  std::deque<Sequence> sequences_;              // by slot; a deque, since an atomic does not move
  std::vector<std::vector<PageId>> published_;  // by block id; empty: the id is free
  std::vector<std::int32_t> freeIds_;
  SwapSpace swaps_;
};

}  // namespace tandem
