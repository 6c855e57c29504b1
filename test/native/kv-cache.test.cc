#include "kv/kv-cache.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "check.h"

using namespace tandem;

namespace {

const PageFormat kFormat{PrecisionClass::bf16, 1, 16};
constexpr int kLayers = 3;

// What the cache should hold, kept in the plainest way.
struct Model {
  std::map<int, std::vector<int>> slots;  // slot -> identities of its blocks
  std::map<std::int32_t, int> published;  // id -> identity
  std::map<int, std::int64_t> dropped;    // slot -> tokens
  std::vector<int> contents;              // by identity; a copy has another identity, and the same content
  struct Swapped {
    std::vector<int> contents;
    std::int64_t tokens = 0;
    std::int64_t dropped = 0;
  };
  std::map<SwapId, Swapped> swapped;
  std::map<int, KvCache::Swap> swaps;  // under way, by slot

  int block(int content) {
    contents.push_back(content);
    return static_cast<int>(contents.size()) - 1;
  }
  int newBlock() { return block(static_cast<int>(contents.size())); }

  bool isCopied(SwapId id) const {
    return std::any_of(swaps.begin(), swaps.end(), [&](const auto& swap) { return swap.second.id == id; });
  }

  std::size_t swappedBlocks() const {
    std::size_t blocks = 0;
    for (const auto& [id, one] : swapped) blocks += one.contents.size();
    return blocks;
  }

  std::set<int> alive() const {
    std::set<int> all;
    for (const auto& [slot, blocks] : slots) all.insert(blocks.begin(), blocks.end());
    for (const auto& [id, block] : published) all.insert(block);
    return all;
  }
};

// What a test writes into a block's pages, and reads again: a page's first and last bytes.
void mark(const KvCache& cache, int slot, std::size_t index, int content) {
  for (int layer = 0; layer < kLayers; ++layer) {
    std::byte* page = cache.pagesOf(slot, layer)[index];
    const int value = content * kLayers + layer;
    std::memcpy(page, &value, sizeof value);
    std::memcpy(page + kFormat.pageBytes() - sizeof value, &value, sizeof value);
  }
}

void checkMark(const KvCache& cache, int slot, std::size_t index, int content) {
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::byte* page = cache.pagesOf(slot, layer)[index];
    const int value = content * kLayers + layer;
    const bool same = std::memcmp(page, &value, sizeof value) == 0 &&
                      std::memcmp(page + kFormat.pageBytes() - sizeof value, &value, sizeof value) == 0;
    test::isTrue(same, "a block keeps its bytes");
  }
}

}  // namespace

TEST("kv cache: 200,000 random operations leak nothing and never share a page by accident") {
  constexpr int kSlots = 6;
  constexpr int kBlocks = 40;
  KvCache cache(kFormat, kLayers, kSlots, allocateHostKv(kBlocks * kLayers * kFormat.pageBytes()));
  test::equal(cache.totalBlocks(), std::int64_t{kBlocks}, "blocks");
  Model model;
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 200'000; ++round) {
    const int slot = below(kSlots);
    std::vector<int>& blocks = model.slots[slot];
    if (const auto swap = model.swaps.find(slot); swap != model.swaps.end()) {
      const auto& [id, copies] = swap->second;
      switch (below(5)) {
        case 0:
          test::throws([&] { cache.release(slot); }, "being swapped");
          continue;
        case 1:
          test::throws([&] { cache.startStep(slot, 1); }, "being swapped");
          continue;
        case 2:
          test::throws([&, id = id] { cache.dropSwapped(id); }, "being copied");
          continue;
      }
      copies.run(cache.memory());
      cache.finishSwap(slot);
      if (copies.toHost) {
        blocks.clear();
        model.dropped[slot] = 0;
      } else {
        test::equal(cache.length(slot), model.swapped[id].tokens, "tokens after a swap");
        model.dropped[slot] = model.swapped[id].dropped;
        model.swapped.erase(id);
      }
      model.swaps.erase(swap);
      continue;
    }
    switch (below(10)) {
      case 0: {
        const int tokens = below(12 * kPageTokens);
        const int wanted = (tokens + kPageTokens - 1) / kPageTokens;
        const int missing = std::max(0, wanted - static_cast<int>(blocks.size()));
        const bool fits = missing <= kBlocks - static_cast<int>(model.alive().size());
        test::equal(cache.reserve(slot, tokens), fits, "reserve says whether it fits");
        if (fits) {
          for (int i = 0; i < missing; ++i) {
            blocks.push_back(model.newBlock());
            mark(cache, slot, blocks.size() - 1, model.contents[blocks.back()]);
          }
        }
        break;
      }
      case 1: {  // a step fills what is reserved, and perhaps another what the slot is given meanwhile
        const std::int64_t room = cache.reserved(slot) - cache.length(slot);
        cache.startStep(slot, room);
        test::throws([&] { cache.release(slot); }, "running step");
        const bool fits = static_cast<int>(model.alive().size()) < kBlocks;
        if (below(2) == 0 || !fits) {
          cache.finishStep(slot, room);
          break;
        }
        test::isTrue(cache.reserve(slot, cache.reserved(slot) + 1), "a slot in a step can grow");
        blocks.push_back(model.newBlock());
        const std::int64_t planned = cache.plannedLength(slot);
        test::equal(planned, cache.length(slot) + room, "tokens after the step");
        const std::vector<PageId> given = cache.followStep(slot, 3);
        test::equal(cache.plannedLength(slot), planned + 3, "tokens after both steps");
        if (below(2) == 0) {
          cache.withdrawStep(slot, 3, given);
          cache.finishStep(slot, room);
          cache.reserve(slot, 0);
          mark(cache, slot, blocks.size() - 1, model.contents[blocks.back()]);
          break;
        }
        cache.finishStep(slot, room);
        test::throws([&] { cache.release(slot); }, "running step");
        cache.takeUp(slot, given);
        mark(cache, slot, blocks.size() - 1, model.contents[blocks.back()]);
        cache.finishStep(slot, 3);
        break;
      }
      case 2:
        cache.release(slot);
        blocks.clear();
        model.dropped[slot] = 0;
        break;
      case 3: {
        const auto full = static_cast<int>(cache.length(slot) / kPageTokens);
        if (full == 0) break;
        const int index = below(full);
        model.published[cache.publish(slot, index)] = blocks[index];
        break;
      }
      case 4: {
        if (model.published.empty()) break;
        auto entry = model.published.begin();
        std::advance(entry, below(static_cast<int>(model.published.size())));
        if (blocks.empty()) {
          model.dropped[slot] = below(3) * kPageTokens;
          cache.attach(slot, {&entry->first, 1}, model.dropped[slot]);
          blocks.push_back(entry->second);
        } else {
          const std::int32_t id = entry->first;
          cache.unpublish({&id, 1});
          model.published.erase(entry);
        }
        break;
      }
      case 5: {
        const int from = below(kSlots);
        if (from == slot || !blocks.empty() || model.swaps.contains(from)) break;
        const auto tokens = below(static_cast<int>(cache.length(from)) + 1);
        const bool partial = tokens % kPageTokens != 0;
        const bool fits = !partial || static_cast<int>(model.alive().size()) < kBlocks;
        test::equal(cache.fork(from, slot, tokens), fits, "fork says whether it fits");
        if (!fits) break;
        model.dropped[slot] = model.dropped[from];
        const std::vector<int>& source = model.slots[from];
        blocks.assign(source.begin(), source.begin() + tokens / kPageTokens);
        if (partial) blocks.push_back(model.block(model.contents[source[tokens / kPageTokens]]));
        break;
      }
      case 6: {
        if (model.swappedBlocks() > 2 * kBlocks) break;
        const std::int64_t tokens = cache.length(slot);
        KvCache::Swap swap = cache.startSwapOut(slot);
        Model::Swapped& swapped = model.swapped[swap.id];
        swapped.tokens = tokens;
        swapped.dropped = model.dropped[slot];
        for (std::int64_t i = 0; i * kPageTokens < tokens; ++i) {
          swapped.contents.push_back(model.contents[blocks[i]]);
        }
        model.swaps.emplace(slot, std::move(swap));
        break;
      }
      case 7:
      case 8: {
        if (model.swapped.empty()) break;
        auto entry = model.swapped.begin();
        std::advance(entry, below(static_cast<int>(model.swapped.size())));
        const auto& [id, swapped] = *entry;
        if (model.isCopied(id)) {
          test::throws([&, id = id] { cache.dropSwapped(id); }, "being copied");
          test::throws([&, id = id] { cache.startSwapIn(slot, id); }, "being copied");
        } else if (!blocks.empty()) {
          test::throws([&, id = id] { cache.startSwapIn(slot, id); }, "holds KV already");
          if (below(4) != 0) break;
          cache.dropSwapped(id);
          model.swapped.erase(entry);
        } else {
          const bool fits = swapped.contents.size() + model.alive().size() <= kBlocks;
          std::optional<KvCache::Swap> swap = cache.startSwapIn(slot, id);
          test::equal(swap.has_value(), fits, "a swap says whether it fits");
          if (!fits) break;
          for (const int content : swapped.contents) blocks.push_back(model.block(content));
          model.swaps.emplace(slot, std::move(*swap));
        }
        break;
      }
      case 9: {
        const std::int64_t length = cache.length(slot);
        const auto full = static_cast<int>(length / kPageTokens);
        if (full == 0) break;
        const int begin = below(full), end = begin + below(full - begin + 1);
        cache.drop(slot, begin, end);
        blocks.erase(blocks.begin() + begin, blocks.begin() + end);
        model.dropped[slot] += (end - begin) * kPageTokens;
        test::equal(cache.length(slot), length - (end - begin) * kPageTokens, "tokens behind a drop");
        break;
      }
    }
    if (!model.swaps.contains(slot)) {
      test::equal(cache.dropped(slot), model.dropped[slot], "tokens that were dropped");
    }
    test::equal(cache.freeBlocks(), std::int64_t{kBlocks} - static_cast<std::int64_t>(model.alive().size()),
                "free blocks");
    test::equal(cache.swappedBytes(), model.swappedBlocks() * cache.blockBytes(), "bytes swapped out");
    if (round % 64 != 0) continue;
    // Two slots share a page exactly where the model says so.
    std::map<const std::byte*, int> owner;
    for (const auto& [one, held] : model.slots) {
      const auto swap = model.swaps.find(one);
      const bool arriving = swap != model.swaps.end() && !swap->second.copies.toHost;
      for (std::size_t i = 0; i < held.size() && !arriving; ++i) {
        checkMark(cache, one, i, model.contents[held[i]]);
      }
      for (int layer = 0; layer < kLayers; ++layer) {
        const auto pages = cache.pagesOf(one, layer);
        test::equal(pages.size(), held.size(), "pages of a slot");
        for (std::size_t i = 0; i < held.size(); ++i) {
          const auto [entry, isNew] = owner.try_emplace(pages[i], held[i]);
          test::equal(entry->second, held[i], "a page has one content");
        }
      }
    }
  }
  for (const auto& [slot, swap] : model.swaps) {
    swap.copies.run(cache.memory());
    cache.finishSwap(slot);
    if (!swap.copies.toHost) model.swapped.erase(swap.id);
  }
  for (const auto& [id, swapped] : model.swapped) cache.dropSwapped(id);
  test::equal(cache.swappedBytes(), std::size_t{0}, "nothing is left in host memory");
  for (int slot = 0; slot < kSlots; ++slot) cache.release(slot);
  for (const auto& [id, block] : model.published) cache.unpublish({&id, 1});
  test::equal(cache.freeBlocks(), std::int64_t{kBlocks}, "everything came back");
}

TEST("kv cache: misuse is refused by name") {
  KvCache cache(kFormat, kLayers, 2, allocateHostKv(100 * kFormat.pageBytes()));
  const std::int32_t unknown = 5;
  test::throws([&] { cache.attach(0, {&unknown, 1}); }, "published");
  test::throws([&] { cache.attach(0, {}, 5); }, "whole pages");
  test::throws([&] { cache.unpublish({&unknown, 1}); }, "not published");
  test::throws([&] { cache.publish(0, 0); }, "not full");
  test::throws([&] { cache.reserve(7, 1); }, "no slot 7");
  test::throws([&] { cache.finishSwap(0); }, "slot 0 is not being swapped");
  test::throws([&] { cache.startSwapIn(0, 3); }, "no swapped KV 3");
  test::throws([&] { cache.dropSwapped(3); }, "no swapped KV 3");
  test::throws([&] { cache.drop(0, 0, 1); }, "blocks 0 to 1 of slot 0 are not all full");
  cache.reserve(0, 1);
  cache.startStep(0, 1);
  test::throws([&] { cache.startSwapOut(0); }, "running step");
  test::throws([] { KvCache(kFormat, kLayers, 1, allocateHostKv(10)); }, "--kv-memory");
}
