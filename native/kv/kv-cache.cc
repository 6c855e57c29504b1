#include "kv/kv-cache.h"

#include <cstring>
#include <string>

#include "core/error.h"

namespace tandem {
namespace {

std::int64_t blocksFor(std::int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace

KvCache::KvCache(PageFormat format, int layers, int slots, std::size_t bytes)
    : layers_(static_cast<std::size_t>(layers)),
      pool_(format, bytes),
      sequences_(static_cast<std::size_t>(slots)) {
  if (totalBlocks() == 0) {
    throw Error("the KV cache of " + std::to_string(bytes) + " bytes holds no block of " +
                std::to_string(blockBytes()) + " bytes; raise --kv-memory");
  }
  for (Sequence& sequence : sequences_) {
    sequence.pages.resize(layers_);
    sequence.addresses.resize(layers_);
  }
}

const KvCache::Sequence& KvCache::at(int slot) const {
  if (slot < 0 || slot >= slots()) throw Error("there is no slot " + std::to_string(slot));
  return sequences_[slot];
}

void KvCache::checkIdle(int slot) const {
  const Sequence& sequence = at(slot);
  if (sequence.inFlight.load(std::memory_order_acquire)) {
    throw Error("slot " + std::to_string(slot) + " is in a running step and cannot be changed");
  }
  if (sequence.swapping) {
    throw Error("slot " + std::to_string(slot) + " is being swapped and cannot be changed");
  }
}

KvCache::Sequence& KvCache::idle(int slot) {
  checkIdle(slot);
  return sequences_[slot];
}

std::int64_t KvCache::reserved(int slot) const { return blocksOf(at(slot)) * kPageTokens; }

std::vector<PageId> KvCache::takeBlock() {
  std::vector<PageId> block(layers_);
  for (PageId& page : block) page = pool_.take();
  return block;
}

void KvCache::append(Sequence& sequence, std::span<const PageId> block) {
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    sequence.pages[layer].push_back(block[layer]);
    sequence.addresses[layer].push_back(pool_.data(block[layer]));
  }
}

bool KvCache::reserve(int slot, std::int64_t tokens) {
  Sequence& sequence = idle(slot);
  const std::int64_t missing = blocksFor(tokens) - blocksOf(sequence);
  if (missing > freeBlocks()) return false;
  for (std::int64_t i = 0; i < missing; ++i) append(sequence, takeBlock());
  return true;
}

void KvCache::release(int slot) { releasePages(idle(slot)); }

void KvCache::releasePages(Sequence& sequence) {
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    for (const PageId page : sequence.pages[layer]) pool_.release(page);
    sequence.pages[layer].clear();
    sequence.addresses[layer].clear();
  }
  sequence.length = 0;
}

std::int32_t KvCache::publish(int slot, std::int64_t index) {
  const Sequence& sequence = idle(slot);
  if (index < 0 || (index + 1) * kPageTokens > sequence.length) {
    throw Error("block " + std::to_string(index) + " of slot " + std::to_string(slot) +
                " is not full and cannot be published");
  }
  std::vector<PageId> block(layers_);
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    block[layer] = sequence.pages[layer][index];
    pool_.addReference(block[layer]);
  }
  if (freeIds_.empty()) {
    published_.push_back(std::move(block));
    return static_cast<std::int32_t>(published_.size() - 1);
  }
  const std::int32_t id = freeIds_.back();
  freeIds_.pop_back();
  published_[id] = std::move(block);
  return id;
}

void KvCache::attach(int slot, std::span<const std::int32_t> blocks) {
  Sequence& sequence = idle(slot);
  check(blocksOf(sequence) == 0, "cached blocks can only start an empty slot");
  for (const std::int32_t id : blocks) {
    check(id >= 0 && id < static_cast<std::int32_t>(published_.size()) && !published_[id].empty(),
          "a cached block that is attached must be published");
  }
  for (const std::int32_t id : blocks) {
    for (const PageId page : published_[id]) pool_.addReference(page);
    append(sequence, published_[id]);
  }
  sequence.length = static_cast<std::int64_t>(blocks.size()) * kPageTokens;
}

void KvCache::unpublish(std::span<const std::int32_t> blocks) {
  for (const std::int32_t id : blocks) {
    check(id >= 0 && id < static_cast<std::int32_t>(published_.size()) && !published_[id].empty(),
          "a cached block was given back that is not published");
    for (const PageId page : published_[id]) pool_.release(page);
    published_[id].clear();
    freeIds_.push_back(id);
  }
}

bool KvCache::fork(int from, int to, std::int64_t tokens) {
  const Sequence& source = idle(from);
  Sequence& target = idle(to);
  check(blocksOf(target) == 0, "a fork needs an empty slot");
  check(tokens >= 0 && tokens <= source.length, "a fork cannot have more tokens than its source");
  const std::int64_t shared = tokens / kPageTokens;
  const bool partial = tokens % kPageTokens != 0;
  if (partial && freeBlocks() == 0) return false;
  std::vector<PageId> block(layers_);
  for (std::int64_t index = 0; index < shared; ++index) {
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      block[layer] = source.pages[layer][index];
      pool_.addReference(block[layer]);
    }
    append(target, block);
  }
  if (partial) {
    block = takeBlock();
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      std::memcpy(pool_.data(block[layer]), source.addresses[layer][shared], format().pageBytes());
    }
    append(target, block);
  }
  target.length = tokens;
  return true;
}

void KvCache::startStep(int slot) { idle(slot).inFlight.store(true, std::memory_order_release); }

void KvCache::finishStep(int slot, std::int64_t appended) {
  Sequence& sequence = sequences_[slot];
  sequence.length += appended;
  sequence.inFlight.store(false, std::memory_order_release);
}

PageCopies KvCache::copiesOf(const Sequence& sequence, std::int64_t blocks, SwapId id, bool toHost) {
  PageCopies copies{{}, format().pageBytes(), swaps_.at(id).memory, toHost};
  copies.pages.reserve(static_cast<std::size_t>(blocks) * layers_);
  for (std::int64_t block = 0; block < blocks; ++block) {
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      copies.pages.push_back(sequence.addresses[layer][block]);
    }
  }
  return copies;
}

KvCache::Swap KvCache::startSwapOut(int slot) {
  Sequence& sequence = idle(slot);
  const std::int64_t blocks = blocksFor(sequence.length);
  const SwapId id = swaps_.add(sequence.length, static_cast<std::size_t>(blocks) * blockBytes());
  sequence.swapping = Swapping{id, true};
  return {id, copiesOf(sequence, blocks, id, true)};
}

std::optional<KvCache::Swap> KvCache::startSwapIn(int slot, SwapId id) {
  Sequence& sequence = idle(slot);
  SwappedKv& swapped = swaps_.idle(id);
  if (blocksOf(sequence) != 0) {
    throw Error("slot " + std::to_string(slot) + " holds KV already; only an empty slot can be swapped in");
  }
  if (!reserve(slot, swapped.tokens)) return std::nullopt;
  swapped.copying = true;
  sequence.swapping = Swapping{id, false};
  return Swap{id, copiesOf(sequence, blocksOf(sequence), id, false)};
}

std::shared_ptr<HostMemory> KvCache::finishSwap(int slot) {
  at(slot);
  Sequence& sequence = sequences_[slot];
  if (!sequence.swapping) throw Error("slot " + std::to_string(slot) + " is not being swapped");
  const auto [id, out] = *sequence.swapping;
  sequence.swapping.reset();
  SwappedKv& swapped = swaps_.at(id);
  if (out) {
    swapped.copying = false;
    releasePages(sequence);
    return nullptr;
  }
  sequence.length = swapped.tokens;
  return swaps_.remove(id);
}

std::shared_ptr<HostMemory> KvCache::dropSwapped(SwapId id) {
  swaps_.idle(id);
  return swaps_.remove(id);
}

}  // namespace tandem
