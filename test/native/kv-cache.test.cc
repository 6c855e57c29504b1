#include "kv/kv-cache.h"

#include <map>
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
  int nextIdentity = 0;

  std::set<int> alive() const {
    std::set<int> all;
    for (const auto& [slot, blocks] : slots) all.insert(blocks.begin(), blocks.end());
    for (const auto& [id, block] : published) all.insert(block);
    return all;
  }
};

}  // namespace

TEST("kv cache: a million random operations leak nothing and never share a page by accident") {
  constexpr int kSlots = 6;
  constexpr int kBlocks = 40;
  KvCache cache(kFormat, kLayers, kSlots, kBlocks * kLayers * kFormat.pageBytes());
  test::equal(cache.totalBlocks(), std::int64_t{kBlocks}, "blocks");
  Model model;
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 1'000'000; ++round) {
    const int slot = below(kSlots);
    std::vector<int>& blocks = model.slots[slot];
    switch (below(6)) {
      case 0: {
        const int tokens = below(12 * kPageTokens);
        const int wanted = (tokens + kPageTokens - 1) / kPageTokens;
        const int missing = std::max(0, wanted - static_cast<int>(blocks.size()));
        const bool fits = missing <= kBlocks - static_cast<int>(model.alive().size());
        test::equal(cache.reserve(slot, tokens), fits, "reserve says whether it fits");
        if (fits) {
          for (int i = 0; i < missing; ++i) blocks.push_back(model.nextIdentity++);
        }
        break;
      }
      case 1: {  // a step fills what is reserved
        const std::int64_t room = cache.reserved(slot) - cache.length(slot);
        cache.startStep(slot);
        test::throws([&] { cache.release(slot); }, "running step");
        cache.finishStep(slot, room);
        break;
      }
      case 2:
        cache.release(slot);
        blocks.clear();
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
          cache.attach(slot, {&entry->first, 1});
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
        if (from == slot || !blocks.empty()) break;
        const auto tokens = below(static_cast<int>(cache.length(from)) + 1);
        const bool partial = tokens % kPageTokens != 0;
        const bool fits = !partial || static_cast<int>(model.alive().size()) < kBlocks;
        test::equal(cache.fork(from, slot, tokens), fits, "fork says whether it fits");
        if (!fits) break;
        const std::vector<int>& source = model.slots[from];
        blocks.assign(source.begin(), source.begin() + tokens / kPageTokens);
        if (partial) blocks.push_back(model.nextIdentity++);
        break;
      }
    }
    test::equal(cache.freeBlocks(), std::int64_t{kBlocks} - static_cast<std::int64_t>(model.alive().size()),
                "free blocks");
    if (round % 64 != 0) continue;
    // Two slots share a page exactly where the model says so.
    std::map<const std::byte*, int> owner;
    for (const auto& [one, held] : model.slots) {
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
  for (int slot = 0; slot < kSlots; ++slot) cache.release(slot);
  for (const auto& [id, block] : model.published) cache.unpublish({&id, 1});
  test::equal(cache.freeBlocks(), std::int64_t{kBlocks}, "everything came back");
}

TEST("kv cache: misuse is refused by name") {
  KvCache cache(kFormat, kLayers, 2, 100 * kFormat.pageBytes());
  const std::int32_t unknown = 5;
  test::throws([&] { cache.attach(0, {&unknown, 1}); }, "published");
  test::throws([&] { cache.unpublish({&unknown, 1}); }, "not published");
  test::throws([&] { cache.publish(0, 0); }, "not full");
  test::throws([&] { cache.reserve(7, 1); }, "no slot 7");
  test::throws([] { KvCache(kFormat, kLayers, 1, 10); }, "--kv-memory");
}
