#include "kv/kv-cache.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace tandem {

KvCache::KvCache(PageFormat format, int layers, int slots, std::unique_ptr<KvMemory> memory, FarMemory far)
    : layers_(static_cast<std::size_t>(layers)),
      pool_(format, std::move(memory), far.bytes > 0 ? PrecisionClass::far : PrecisionClass::int2),
      far_(far, format.in(PrecisionClass::int4).pageBytes()),
      sequences_(static_cast<std::size_t>(slots)) {
  if (totalBlocks() == 0) {
    throw Error("the KV cache of " + std::to_string(pool_.bytes()) + " bytes holds no block of " +
                std::to_string(blockBytes()) + " bytes; raise --kv-memory");
  }
  if (far.bytes > 0 && freeFarBlocks() == 0) {
    throw Error("the memory of " + std::to_string(far.bytes) + " bytes for far pages holds no block of " +
                std::to_string(blockBytes(PrecisionClass::int4)) + " bytes; raise --pack-far-memory");
  }
  for (Sequence& sequence : sequences_) {
    sequence.pages.resize(layers_);
    sequence.addresses.resize(layers_);
    sequence.classes.resize(layers_);
  }
}

const KvCache::Sequence& KvCache::at(int slot) const {
  if (slot < 0 || slot >= slots()) throw Error("there is no slot " + std::to_string(slot));
  return sequences_[slot];
}

void KvCache::checkMayRun(int slot) const {
  if (isInStep(slot)) {
    throw Error("slot " + std::to_string(slot) + " is in a running step and cannot be changed");
  }
  checkMayFollow(slot);
}

void KvCache::checkMayFollow(int slot) const {
  if (at(slot).swapping) {
    throw Error("slot " + std::to_string(slot) + " is being swapped and cannot be changed");
  }
}

KvCache::Sequence& KvCache::mayRun(int slot) {
  checkMayRun(slot);
  Sequence& sequence = sequences_[slot];
  takeUp(slot, std::exchange(sequence.given, {}));
  return sequence;
}

KvCache::Sequence& KvCache::idle(int slot) {
  Sequence& sequence = mayRun(slot);
  if (sequence.converting) {
    throw Error("slot " + std::to_string(slot) + " is being converted and cannot be changed");
  }
  return sequence;
}

// A step that ends between the two reads has left the length that was planned, unless it failed: then what
// follows it fails too.
std::int64_t KvCache::plannedLength(int slot) const {
  return isInStep(slot) ? at(slot).planned : at(slot).length;
}

std::optional<std::vector<PageId>> KvCache::take(std::span<const PrecisionClass> classes) {
  std::vector<PageId> pages;
  for (const PrecisionClass precision : classes) {
    const PageId page = precision == PrecisionClass::none ? kGivenUp : pool_.take(precision);
    if (page < 0 && precision != PrecisionClass::none) {
      for (const PageId taken : pages) releasePage(taken);
      return std::nullopt;
    }
    pages.push_back(page);
  }
  return pages;
}

void KvCache::append(Sequence& sequence, std::span<const PageId> block) {
  tabulate(sequence, block);
  ++sequence.blocks;
}

void KvCache::tabulate(Sequence& sequence, std::span<const PageId> block) {
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    sequence.pages[layer].push_back(block[layer]);
    sequence.addresses[layer].push_back(dataOf(block[layer]));
    sequence.classes[layer].push_back(classOf(block[layer]));
  }
}

bool KvCache::reserve(int slot, std::int64_t tokens, PrecisionClass precision) {
  const bool isRunning = isInStep(slot);
  checkMayFollow(slot);
  Sequence& sequence = isRunning ? sequences_[slot] : mayRun(slot);
  if (isPacked(precision) || bitsOf(precision) > bitsOf(format().precision)) {
    throw Error(std::string("tokens cannot be written to pages in ") + nameOf(precision) + ", of a pool in " +
                nameOf(format().precision));
  }
  const std::int64_t missing = blocksFor(tokens) - sequence.blocks;
  if (missing > static_cast<std::int64_t>(pool_.freePages(precision) / layers_)) return false;
  const std::vector<PrecisionClass> classes(layers_, precision);
  for (std::int64_t i = 0; i < missing; ++i) {
    const std::vector<PageId> block = *take(classes);
    if (isRunning) {
      sequence.given.insert(sequence.given.end(), block.begin(), block.end());
      ++sequence.blocks;
    } else {
      append(sequence, block);
    }
  }
  return true;
}

// With an outline that nobody has any more goes its place.
void KvCache::releasePage(PageId page) {
  if (page == kGivenUp) return;
  const bool isFar = pool_.classOf(page) == PrecisionClass::far;
  pool_.release(page);
  if (isFar && pool_.references(page) == 0) far_.detach(page);
}

void KvCache::release(int slot) { releasePages(idle(slot)); }

void KvCache::releasePages(Sequence& sequence) {
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    for (const PageId page : sequence.pages[layer]) releasePage(page);
    sequence.pages[layer].clear();
    sequence.addresses[layer].clear();
    sequence.classes[layer].clear();
  }
  sequence.length = 0;
  sequence.dropped = 0;
  sequence.blocks = 0;
  ++sequence.version;
}

std::int32_t KvCache::publish(int slot, std::int64_t index) {
  const Sequence& sequence = mayRun(slot);
  if (index < 0 || (index + 1) * kPageTokens > sequence.length) {
    throw Error("block " + std::to_string(index) + " of slot " + std::to_string(slot) +
                " is not full and cannot be published");
  }
  std::vector<PageId> block(layers_);
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    block[layer] = sequence.pages[layer][index];
    addReference(block[layer]);
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

std::span<const PageId> KvCache::publishedBlock(std::int32_t id) const {
  check(id >= 0 && id < static_cast<std::int32_t>(published_.size()) && !published_[id].empty(),
        "a cached block that is attached must be published");
  return published_[id];
}

void KvCache::attach(int slot, std::span<const std::int32_t> blocks, std::int64_t dropped) {
  Sequence& sequence = idle(slot);
  check(blocksOf(sequence) == 0, "cached blocks can only start an empty slot");
  check(dropped >= 0 && dropped % kPageTokens == 0, "tokens are dropped by whole pages");
  for (const std::int32_t id : blocks) publishedBlock(id);
  for (const std::int32_t id : blocks) {
    for (const PageId page : published_[id]) addReference(page);
    append(sequence, published_[id]);
  }
  sequence.length = static_cast<std::int64_t>(blocks.size()) * kPageTokens;
  sequence.dropped = dropped;
}

void KvCache::unpublish(std::span<const std::int32_t> blocks) {
  for (const std::int32_t id : blocks) {
    check(id >= 0 && id < static_cast<std::int32_t>(published_.size()) && !published_[id].empty(),
          "a cached block was given back that is not published");
    for (const PageId page : published_[id]) releasePage(page);
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
  std::vector<PageId> last;
  if (tokens % kPageTokens != 0) {
    const std::vector<PrecisionClass> classes = classesOf(source, shared, shared + 1);
    check(std::ranges::none_of(classes, isPacked),
          "a fork cannot end within a packed block, which takes no more tokens");
    std::optional<std::vector<PageId>> taken = take(classes);
    if (!taken) return false;
    last = std::move(*taken);
  }
  std::vector<PageId> block(layers_);
  for (std::int64_t index = 0; index < shared; ++index) {
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      block[layer] = source.pages[layer][index];
      addReference(block[layer]);
    }
    append(target, block);
  }
  if (!last.empty()) {
    std::vector<PageCopy> copies;
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      copies.push_back({pool_.data(last[layer]), source.addresses[layer][shared],
                        format().in(source.classes[layer][shared]).pageBytes()});
    }
    memory().copy(copies);
    append(target, last);
  }
  target.length = tokens;
  target.dropped = source.dropped;
  return true;
}

void KvCache::replace(int slot, std::int64_t index, std::int32_t block) {
  Sequence& sequence = idle(slot);
  const std::span<const PageId> pages = publishedBlock(block);
  if (index < 0 || (index + 1) * kPageTokens > sequence.length) {
    throw Error("block " + std::to_string(index) + " of slot " + std::to_string(slot) +
                " is not full and cannot be replaced");
  }
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    addReference(pages[layer]);
    put(sequence, {layer, index, pages[layer]});
  }
}

void KvCache::drop(int slot, std::int64_t begin, std::int64_t end) {
  Sequence& sequence = idle(slot);
  if (begin < 0 || begin > end || end * kPageTokens > sequence.length) {
    throw Error("blocks " + std::to_string(begin) + " to " + std::to_string(end) + " of slot " +
                std::to_string(slot) + " are not all full and cannot be dropped");
  }
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    for (std::int64_t block = begin; block < end; ++block) releasePage(sequence.pages[layer][block]);
    const auto cut = [&](auto& column) { column.erase(column.begin() + begin, column.begin() + end); };
    cut(sequence.pages[layer]);
    cut(sequence.addresses[layer]);
    cut(sequence.classes[layer]);
  }
  sequence.blocks -= end - begin;
  sequence.length -= (end - begin) * kPageTokens;
  sequence.dropped += (end - begin) * kPageTokens;
  ++sequence.version;
}

PagePartitions KvCache::partitionsOf(int slot, const PageSelection& selection) const {
  const Sequence& sequence = at(slot);
  if (selection.afterDrop && sequence.dropped == 0) return {selection, 0, selection.sinkPages};
  const std::vector<PrecisionClass>& classes = sequence.classes[0];
  const auto sink = std::min(selection.sinkPages, static_cast<std::int64_t>(classes.size()));
  const auto recent = std::find_if_not(classes.begin() + sink, classes.end(), isPacked);
  const PagePartitions partitions{selection, sequence.dropped / kPageTokens,
                                  std::max(selection.sinkPages, recent - classes.begin())};
  // Where rows see all pages, they are not chosen by outlines; the oldest would be far.
  check(recent == classes.begin() + sink || classes[sink] != PrecisionClass::far ||
            partitions.absentPages() > 0,
        "a sequence has far pages that all of its tokens see");
  return partitions;
}

void KvCache::put(Sequence& sequence, const Replacement& replacement) {
  const auto& [layer, block, page] = replacement;
  releasePage(sequence.pages[layer][block]);
  sequence.pages[layer][block] = page;
  sequence.addresses[layer][block] = dataOf(page);
  sequence.classes[layer][block] = classOf(page);
  ++sequence.version;
}

void KvCache::checkTakesTokens(int slot) const {
  const Sequence& sequence = at(slot);
  if (sequence.converting && sequence.convertsTail) {
    throw Error("slot " + std::to_string(slot) + " is being converted and takes no tokens till then");
  }
}

void KvCache::startStep(int slot, std::int64_t tokens) {
  Sequence& sequence = mayRun(slot);
  checkTakesTokens(slot);
  sequence.planned = sequence.length + tokens;
  sequence.steps.fetch_add(1, std::memory_order_release);
}

void KvCache::finishStep(int slot, std::int64_t appended) {
  Sequence& sequence = sequences_[slot];
  sequence.length += appended;
  sequence.steps.fetch_sub(1, std::memory_order_release);
}

std::vector<PageId> KvCache::followStep(int slot, std::int64_t tokens) {
  checkMayFollow(slot);
  Sequence& sequence = sequences_[slot];
  sequence.planned = plannedLength(slot) + tokens;
  sequence.steps.fetch_add(1, std::memory_order_release);
  return std::exchange(sequence.given, {});
}

void KvCache::takeUp(int slot, std::span<const PageId> pages) {
  for (; !pages.empty(); pages = pages.subspan(layers_)) tabulate(sequences_[slot], pages.first(layers_));
}

void KvCache::withdrawStep(int slot, std::int64_t tokens, std::span<const PageId> pages) {
  Sequence& sequence = sequences_[slot];
  sequence.planned -= tokens;
  sequence.given.insert(sequence.given.begin(), pages.begin(), pages.end());
  sequence.steps.fetch_sub(1, std::memory_order_release);
}

PageCopies KvCache::copiesOf(const Sequence& sequence, std::int64_t blocks, SwapId id, bool toHost) {
  PageCopies copies{{}, swaps_.at(id).memory, toHost};
  copies.pages.reserve(static_cast<std::size_t>(blocks) * layers_);
  for (std::int64_t block = 0; block < blocks; ++block) {
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      const PrecisionClass precision = sequence.classes[layer][block];
      if (precision == PrecisionClass::none) continue;  // given up: there is nothing to copy
      copies.pages.push_back({sequence.addresses[layer][block], format().in(precision).pageBytes()});
    }
  }
  return copies;
}

std::vector<PrecisionClass> KvCache::classesOf(const Sequence& sequence, std::int64_t first,
                                               std::int64_t end) const {
  std::vector<PrecisionClass> classes;
  for (std::int64_t block = first; block < end; ++block) {
    for (std::size_t layer = 0; layer < layers_; ++layer) classes.push_back(sequence.classes[layer][block]);
  }
  return classes;
}

std::vector<FarPages::Place> KvCache::sharePlaces(const Sequence& sequence, std::int64_t blocks) {
  std::vector<FarPages::Place> places;
  for (std::int64_t block = 0; block < blocks; ++block) {
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      if (sequence.classes[layer][block] != PrecisionClass::far) continue;
      places.push_back(far_.share(sequence.pages[layer][block]));
    }
  }
  return places;
}

KvCache::Swap KvCache::startSwapOut(int slot) {
  Sequence& sequence = idle(slot);
  const std::int64_t blocks = blocksFor(sequence.length);
  std::vector<PrecisionClass> classes = classesOf(sequence, 0, blocks);
  std::size_t bytes = 0;
  for (const PrecisionClass precision : classes) bytes += format().in(precision).pageBytes();
  const SwapId id = swaps_.add(sequence.length, sequence.dropped, std::move(classes), bytes);
  swaps_.at(id).places = sharePlaces(sequence, blocks);
  sequence.swapping = Swapping{id, true};
  return {id, copiesOf(sequence, blocks, id, true)};
}

std::optional<KvCache::Swap> KvCache::startSwapIn(int slot, SwapId id) {
  Sequence& sequence = idle(slot);
  SwappedKv& swapped = swaps_.idle(id);
  if (blocksOf(sequence) != 0) {
    throw Error("slot " + std::to_string(slot) + " holds KV already; only an empty slot can be swapped in");
  }
  const std::optional<std::vector<PageId>> pages = take(swapped.classes);
  if (!pages) return std::nullopt;
  auto place = swapped.places.begin();
  for (const PageId page : *pages) {
    if (classOf(page) == PrecisionClass::far) far_.attach(page, *place++);
  }
  for (std::size_t first = 0; first < pages->size(); first += layers_) {
    append(sequence, std::span(*pages).subspan(first, layers_));
  }
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
  sequence.dropped = swapped.dropped;
  return removeSwapped(id);
}

std::shared_ptr<HostMemory> KvCache::dropSwapped(SwapId id) {
  swaps_.idle(id);
  return removeSwapped(id);
}

std::shared_ptr<HostMemory> KvCache::removeSwapped(SwapId id) {
  for (const FarPages::Place place : swaps_.at(id).places) far_.release(place);
  return swaps_.remove(id);
}

}  // namespace tandem
