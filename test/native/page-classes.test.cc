#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "check.h"
#include "kv/kv-cache.h"

using namespace tandem;

namespace {

const PageFormat kPageFormat{PrecisionClass::bf16, 1, 16};
constexpr int kPageLayers = 3;
constexpr int kSlots = 5;

FarMemory farMemory(std::size_t pages) {
  const std::size_t bytes = pages * kPageFormat.in(PrecisionClass::int4).pageBytes();
  return {std::shared_ptr<std::byte>(new std::byte[bytes], std::default_delete<std::byte[]>()), bytes};
}

// What the cache should hold, page by page, kept in the plainest way. A page is written once, with a number
// of its own, which a far one has in its outline and in its place.
struct ClassModel {
  struct Page {
    PrecisionClass precision;
    int content;
  };
  using Block = std::array<int, kPageLayers>;  // identities of pages

  std::vector<Page> pages;  // by identity
  std::map<int, std::vector<Block>> slots;
  std::map<std::int32_t, Block> published;
  struct Swapped {
    std::vector<Block> blocks;
  };
  std::map<SwapId, Swapped> swapped;
  int contents = 0;

  int page(PrecisionClass precision, int content) {
    pages.push_back({precision, content});
    return static_cast<int>(pages.size()) - 1;
  }
  std::size_t bytesOf(const std::vector<Block>& blocks) const {
    std::size_t bytes = 0;
    for (const Block& block : blocks) {
      for (const int page : block) bytes += kPageFormat.in(pages[page].precision).pageBytes();
    }
    return bytes;
  }
  // Every page in use counts once, however many share it.
  std::size_t heldBytes() const {
    std::set<int> alive;
    for (const auto& [slot, blocks] : slots) {
      for (const Block& block : blocks) alive.insert(block.begin(), block.end());
    }
    for (const auto& [id, block] : published) alive.insert(block.begin(), block.end());
    std::size_t bytes = 0;
    for (const int page : alive) bytes += kPageFormat.in(pages[page].precision).pageBytes();
    return bytes;
  }
  // A place counts once, however many outlines share it, and swapped ones too.
  std::size_t heldPlaces() const {
    std::set<int> far;
    const auto add = [&](const Block& block) {
      for (const int page : block) {
        if (pages[page].precision == PrecisionClass::far) far.insert(pages[page].content);
      }
    };
    for (const auto& [slot, blocks] : slots) std::ranges::for_each(blocks, add);
    for (const auto& [id, block] : published) add(block);
    for (const auto& [id, one] : swapped) std::ranges::for_each(one.blocks, add);
    return far.size();
  }
};

void writeMark(std::byte* page, PrecisionClass precision, int content) {
  if (precision == PrecisionClass::none) return;
  const std::size_t bytes = kPageFormat.in(precision).pageBytes();
  std::memcpy(page, &content, sizeof content);
  std::memcpy(page + bytes - sizeof content, &content, sizeof content);
}

void writeMark(const PageConversion& conversion, int content) {
  writeMark(conversion.to, conversion.toFormat.precision, content);
  if (conversion.toFormat.precision != PrecisionClass::far) return;
  std::memcpy(conversion.to + conversion.toFormat.detailPlace(), &conversion.detail,
              sizeof conversion.detail);
  writeMark(conversion.detail, PrecisionClass::int4, content);
}

bool isMarked(const std::byte* page, PrecisionClass precision, int content) {
  const std::size_t bytes = kPageFormat.in(precision).pageBytes();
  return std::memcmp(page, &content, sizeof content) == 0 &&
         std::memcmp(page + bytes - sizeof content, &content, sizeof content) == 0;
}

const std::byte* detailOf(const std::byte* outline) {
  const std::byte* detail = nullptr;
  std::memcpy(&detail, outline + kPageFormat.in(PrecisionClass::far).detailPlace(), sizeof detail);
  return detail;
}

void expectMarks(const KvCache& cache, int slot, const std::vector<ClassModel::Block>& blocks,
                 const ClassModel& model) {
  for (int layer = 0; layer < kPageLayers; ++layer) {
    const KvView view = cache.viewOf(slot, layer);
    test::equal(view.pages.size(), blocks.size(), "pages of a slot");
    test::equal(view.classes.size(), blocks.size(), "classes of a slot");
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto& [precision, content] = model.pages[blocks[i][layer]];
      test::equal(nameOf(view.classes[i]), nameOf(precision), "a page's class");
      if (precision == PrecisionClass::none) {
        test::isTrue(view.pages[i] == nullptr, "a page that was given up has no address");
        continue;
      }
      test::isTrue(isMarked(view.pages[i], precision, content), "a page keeps its bytes");
      if (precision != PrecisionClass::far) continue;
      test::isTrue(isMarked(detailOf(view.pages[i]), PrecisionClass::int4, content),
                   "a far page keeps those in its place");
    }
  }
}

}  // namespace

TEST("page classes: random operations over all classes report the bytes they hold, and lose none") {
  constexpr std::size_t kBytes = 150 * 1024, kPlaces = 10;
  KvCache cache(kPageFormat, kPageLayers, kSlots, allocateHostKv(kBytes), farMemory(kPlaces));
  const std::int64_t total = cache.totalBlocks();
  ClassModel model;
  std::mt19937 random(19);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  int refused = 0, converted = 0, becameFar = 0, outOfPlaces = 0, compacted = 0;
  for (int round = 0; round < 200'000; ++round) {
    const int slot = below(kSlots);
    std::vector<ClassModel::Block>& blocks = model.slots[slot];
    switch (below(11)) {
      case 0: {  // reserve, write and fill
        const std::int64_t wanted = static_cast<std::int64_t>(blocks.size()) + below(6);
        const std::int64_t missing = wanted - static_cast<std::int64_t>(blocks.size());
        const std::int64_t freeBefore = cache.freeBlocks();
        const PrecisionClass born = below(2) == 0 ? PrecisionClass::bf16 : PrecisionClass::int8;
        const bool fits = cache.reserve(slot, wanted * kPageTokens, born);
        if (born == PrecisionClass::bf16) {
          test::equal(fits, missing <= freeBefore, "reserve says whether it fits");
        }
        if (!fits) {
          ++refused;
          break;
        }
        for (std::int64_t i = 0; i < missing; ++i) {
          ClassModel::Block& block = blocks.emplace_back();
          for (int layer = 0; layer < kPageLayers; ++layer) {
            block[layer] = model.page(born, model.contents++);
            writeMark(cache.viewOf(slot, layer).pages[blocks.size() - 1], born,
                      model.pages[block[layer]].content);
          }
        }
        cache.startStep(slot, cache.reserved(slot) - cache.length(slot));
        cache.finishStep(slot, cache.reserved(slot) - cache.length(slot));
        break;
      }
      case 1:
        if (below(3) != 0) break;
        cache.release(slot);
        blocks.clear();
        break;
      case 2: {
        if (blocks.empty() || model.published.size() > 20) break;
        const int index = below(static_cast<int>(blocks.size()));
        model.published[cache.publish(slot, index)] = blocks[index];
        break;
      }
      case 3: {
        if (model.published.empty()) break;
        auto entry = model.published.begin();
        std::advance(entry, below(static_cast<int>(model.published.size())));
        const std::int32_t id = entry->first;
        if (blocks.empty()) {
          cache.attach(slot, {&id, 1});
          blocks.push_back(entry->second);
        } else {
          cache.unpublish({&id, 1});
          model.published.erase(entry);
        }
        break;
      }
      case 4: {
        const int from = below(kSlots);
        if (from == slot || !blocks.empty()) break;
        const auto count = below(static_cast<int>(model.slots[from].size()) + 1);
        test::isTrue(cache.fork(from, slot, count * kPageTokens), "full blocks are shared");
        blocks.assign(model.slots[from].begin(), model.slots[from].begin() + count);
        break;
      }
      case 5: {  // leave, and come back later on pages of the same classes
        if (model.swapped.size() > 3) break;
        KvCache::Swap swap = cache.startSwapOut(slot);
        swap.copies.run(cache.memory());
        cache.finishSwap(slot);
        test::equal(cache.swappedBytes(swap.id), model.bytesOf(blocks), "bytes of swapped KV");
        model.swapped[swap.id] = {std::move(blocks)};
        blocks.clear();
        break;
      }
      case 6: {
        if (model.swapped.empty() || !blocks.empty()) break;
        const SwapId id = model.swapped.begin()->first;
        const std::optional<KvCache::Swap> swap = cache.startSwapIn(slot, id);
        if (!swap) {
          ++refused;
          break;
        }
        swap->copies.run(cache.memory());
        cache.finishSwap(slot);
        for (const ClassModel::Block& block : model.swapped[id].blocks) {
          ClassModel::Block& own = blocks.emplace_back();
          for (int layer = 0; layer < kPageLayers; ++layer) {
            const ClassModel::Page page = model.pages[block[layer]];
            own[layer] = model.page(page.precision, page.content);
          }
        }
        model.swapped.erase(id);
        break;
      }
      case 7: {  // a published block takes a full one's place
        if (model.published.empty() || blocks.empty()) break;
        auto entry = model.published.begin();
        std::advance(entry, below(static_cast<int>(model.published.size())));
        const int index = below(static_cast<int>(blocks.size()));
        cache.replace(slot, index, entry->first);
        blocks[index] = entry->second;
        break;
      }
      case 8: {  // move together what lies scattered, but for a slot in a step
        const std::int64_t freeBefore = cache.freeBlocks();
        const std::vector<std::byte*> places(cache.pagesOf(slot, 0).begin(), cache.pagesOf(slot, 0).end());
        cache.startStep(slot, 0);
        const bool cameFree = cache.compact(1 + below(20));
        const std::int64_t gained = cache.freeBlocks() - freeBefore;
        test::isTrue(cameFree ? gained > 0 : gained == 0, "blocks come free as it says");
        if (cameFree) ++compacted;
        test::isTrue(std::ranges::equal(cache.pagesOf(slot, 0), places), "who is in a step is left alone");
        cache.finishStep(slot, 0);
        break;
      }
      default: {  // convert some blocks, each page into a class of its own, or give it up
        const int begin = below(static_cast<int>(blocks.size()) + 1);
        const int end = begin + below(static_cast<int>(blocks.size()) - begin + 1);
        std::vector<PrecisionClass> classes;
        std::size_t wantedPlaces = 0;
        for (int page = 0; page < (end - begin) * kPageLayers; ++page) {
          PrecisionClass to = static_cast<PrecisionClass>(below(static_cast<int>(PrecisionClass::none) + 1));
          const auto held = model.pages[blocks[begin + page / kPageLayers][page % kPageLayers]].precision;
          if (to == PrecisionClass::far && bitsOf(held) >= 8) to = PrecisionClass::int4;
          if (held == PrecisionClass::int4 && below(2) == 0) to = PrecisionClass::far;
          if (to == PrecisionClass::far && held == PrecisionClass::int4) ++wantedPlaces;
          classes.push_back(to);
        }
        const std::size_t before = cache.heldBytes(), places = model.heldPlaces();
        const auto pages = cache.startConversion(slot, begin, end, classes);
        if (places + wantedPlaces > kPlaces) {
          test::isTrue(!pages, "a page that has no place does not become far");
          ++outOfPlaces;
        }
        if (!pages) {
          test::equal(cache.heldBytes(), before, "bytes after a conversion that did not fit");
          ++refused;
          break;
        }
        test::throws([&] { cache.release(slot); }, "being converted");
        test::throws([&] { cache.finishConversion(slot); }, "still written");
        const bool dropped = below(4) == 0;
        std::size_t next = 0;
        for (int at = 0; at < kPageLayers; ++at) {
          for (int index = begin; index < end; ++index) {
            int& page = blocks[index][at];
            const PrecisionClass to = classes[(index - begin) * kPageLayers + at];
            const PrecisionClass held = model.pages[page].precision;
            const bool isToBeFar = held == PrecisionClass::int4 && to == PrecisionClass::far;
            if (!isToBeFar && (bitsOf(held) < 8 || bitsOf(to) >= bitsOf(held))) continue;
            if (to == PrecisionClass::none) {
              if (!dropped) page = model.page(to, model.contents++);
              continue;
            }
            test::isTrue(next < pages->size(), "every page that can be is converted");
            const PageConversion& conversion = (*pages)[next++];
            test::equal(nameOf(conversion.fromFormat.precision), nameOf(held), "from");
            test::equal(nameOf(conversion.toFormat.precision), nameOf(to), "to");
            test::equal(std::memcmp(conversion.from, &model.pages[page].content, sizeof(int)), 0, "source");
            const int packed = model.page(to, model.contents++);
            writeMark(conversion, model.pages[packed].content);
            if (dropped) continue;
            page = packed;
            ++converted;
            if (isToBeFar) ++becameFar;
          }
        }
        test::equal(next, pages->size(), "and no other");
        cache.startStep(slot, 0);
        cache.conversionWritten(slot);
        test::throws([&] { cache.finishConversion(slot); }, "running step");
        cache.finishStep(slot, 0);
        dropped ? cache.dropConversion(slot) : cache.finishConversion(slot);
        break;
      }
    }
    test::equal(cache.heldBytes(), model.heldBytes(), "bytes in use");
    test::equal(cache.freeFarBlocks(),
                static_cast<std::int64_t>((kPlaces - model.heldPlaces()) / kPageLayers),
                "blocks that could become far");
    if (round % 16 == 0) {
      for (const auto& [one, held] : model.slots) expectMarks(cache, one, held, model);
    }
  }
  test::isTrue(refused > 100 && converted > 1000, "memory was out at times, and pages were converted");
  test::isTrue(becameFar > 500 && outOfPlaces > 100, "pages became far, and there was no place at times");
  test::isTrue(compacted > 100, "pages were moved together");
  for (int slot = 0; slot < kSlots; ++slot) cache.release(slot);
  for (const auto& [id, block] : model.published) cache.unpublish({&id, 1});
  for (const auto& [id, swapped] : model.swapped) cache.dropSwapped(id);
  test::equal(cache.heldBytes(), std::size_t{0}, "bytes at the end");
  test::equal(cache.freeBlocks(), total, "chunks of every class came back");
  test::equal(cache.freeFarBlocks(), static_cast<std::int64_t>(kPlaces / kPageLayers), "and every place");
}

TEST(
    "page classes: the pool gives out as many pages of a class as it says, and takes them back for another") {
  for (const PrecisionClass own : {PrecisionClass::bf16, PrecisionClass::int8}) {
    const PageFormat format{own, 2, 64};
    PagePool pool(format, allocateHostKv(50 * format.pageBytes()), PrecisionClass::far);
    test::equal(pool.freePages(), std::size_t{50}, "pages of the pool's own class");
    for (int round = 0; round < 3; ++round) {
      for (const PrecisionClass precision : kHeldClasses) {
        const std::size_t promised = pool.freePages(precision);
        const std::size_t most = pool.bytes() / format.in(precision).pageBytes();
        test::isTrue(promised <= most && promised * 10 >= most * 9, "little is lost to chunks");
        std::map<std::byte*, PageId> places;
        for (std::size_t i = 0; i < promised; ++i) {
          const PageId page = pool.take(precision);
          test::isTrue(page >= 0, "a page that was promised");
          places[pool.data(page)] = page;
        }
        test::equal(pool.take(precision), PageId{-1}, "the page after the last");
        test::equal(pool.heldBytes(), promised * format.in(precision).pageBytes(), "bytes in use");
        std::byte* end = nullptr;
        for (const auto& [place, page] : places) {
          test::isTrue(place >= end, "pages do not overlap");
          end = place + format.in(precision).pageBytes();
        }
        for (const auto& [place, page] : places) pool.release(page);
        test::equal(pool.heldBytes(), std::size_t{0}, "bytes once all came back");
      }
    }
  }
}

TEST("page classes: pages that others have left scattered are moved together until what is free is of use") {
  constexpr int kBlocks = 96;
  constexpr int kMany = 4 * kBlocks;
  KvCache cache(kPageFormat, kPageLayers, kMany,
                allocateHostKv(kBlocks * kPageLayers * kPageFormat.pageBytes()));
  int packed = 0;
  for (int slot = 0; slot < kMany && cache.reserve(slot, kPageTokens); ++slot) {
    cache.startStep(slot, kPageTokens);
    cache.finishStep(slot, kPageTokens);
    const std::vector<PrecisionClass> classes(kPageLayers,
                                              slot % 2 == 0 ? PrecisionClass::int4 : PrecisionClass::int2);
    const auto pages = cache.startConversion(slot, 0, 1, classes);
    if (!pages) break;
    cache.conversionWritten(slot);
    cache.finishConversion(slot);
    for (int layer = 0; layer < kPageLayers; ++layer) {
      writeMark(cache.pagesOf(slot, layer)[0], classes[layer], slot * kPageLayers + layer);
    }
    ++packed;
  }
  const std::int32_t shared = cache.publish(4, 0);
  for (int slot = 0; slot < packed; ++slot) {
    if (slot % 8 >= 2) cache.release(slot);
  }
  const std::size_t held = cache.heldBytes();
  const auto chunk = static_cast<std::int64_t>(kChunkPages);
  const std::int64_t unused = cache.totalBlocks() - static_cast<std::int64_t>(held / cache.blockBytes());
  test::isTrue(unused - cache.freeBlocks() > 2 * chunk / kPageLayers,
               "much of what is unused lies scattered");
  test::isTrue(!cache.compact(kBlocks), "nothing is moved for what cannot be had");
  // But for less than a chunk of either class, and what does not fill one.
  const std::int64_t most = unused - 3 * chunk / kPageLayers;
  test::isTrue(cache.compact(most - cache.freeBlocks()), "there is something to move");
  test::isTrue(cache.freeBlocks() >= most, "nearly all that is unused is free");
  test::equal(cache.heldBytes(), held, "bytes in use");
  for (int slot = 0; slot < packed; ++slot) {
    if (slot % 8 >= 2) continue;
    for (int layer = 0; layer < kPageLayers; ++layer) {
      const int mark = slot * kPageLayers + layer;
      test::equal(std::memcmp(cache.pagesOf(slot, layer)[0], &mark, sizeof mark), 0,
                  "a page keeps its bytes");
    }
  }
  cache.release(4);
  cache.attach(4, {&shared, 1});
  const int mark = 4 * kPageLayers;
  test::equal(std::memcmp(cache.pagesOf(4, 0)[0], &mark, sizeof mark), 0, "a published page too");
}

TEST("page classes: outlines that lie scattered are moved together, and keep their places") {
  constexpr int kMany = 400;
  constexpr std::size_t kPlaces = kMany * kPageLayers;
  KvCache cache(kPageFormat, kPageLayers, kMany, allocateHostKv(60 * kPageLayers * kPageFormat.pageBytes()),
                farMemory(kPlaces));
  const auto markOf = [](int slot, int layer) { return slot * kPageLayers + layer; };
  for (int slot = 0; slot < kMany; ++slot) {
    test::isTrue(cache.reserve(slot, kPageTokens), "room for a block");
    cache.startStep(slot, kPageTokens);
    cache.finishStep(slot, kPageTokens);
    for (const PrecisionClass to : {PrecisionClass::int4, PrecisionClass::far}) {
      const auto pages = cache.startConversion(slot, 0, 1, std::vector<PrecisionClass>(kPageLayers, to));
      test::isTrue(pages.has_value(), "room for a page in another class");
      for (int layer = 0; layer < kPageLayers; ++layer) writeMark((*pages)[layer], markOf(slot, layer));
      cache.conversionWritten(slot);
      cache.finishConversion(slot);
    }
  }
  test::equal(cache.freeFarBlocks(), std::int64_t{0}, "places that are left");
  const std::int32_t published = cache.publish(4, 0);
  for (int slot = 0; slot < kMany; ++slot) {
    if (slot % 4 != 0) cache.release(slot);
  }
  const std::size_t held = cache.heldBytes();
  test::isTrue(cache.compact(2 * static_cast<std::int64_t>(kChunkPages) / kPageLayers),
               "two chunks come free");
  test::equal(cache.heldBytes(), held, "bytes in use");
  const auto expectMarked = [&](int slot) {
    for (int layer = 0; layer < kPageLayers; ++layer) {
      const std::byte* outline = cache.pagesOf(slot, layer)[0];
      test::isTrue(isMarked(outline, PrecisionClass::far, markOf(slot, layer)), "an outline keeps its bytes");
      test::isTrue(isMarked(detailOf(outline), PrecisionClass::int4, markOf(slot, layer)),
                   "its address leads to its page");
    }
  };
  for (int slot = 0; slot < kMany; slot += 4) expectMarked(slot);
  cache.release(4);
  cache.attach(4, {&published, 1});
  expectMarked(4);
  cache.unpublish({&published, 1});
  test::equal(cache.freeFarBlocks(), std::int64_t{kMany - kMany / 4}, "places that came back before");
  for (int slot = 0; slot < kMany; slot += 4) cache.release(slot);
  test::equal(cache.freeFarBlocks(), std::int64_t{kMany}, "all places");
}

TEST("page classes: misuse is refused by name") {
  KvCache cache(kPageFormat, kPageLayers, 2, allocateHostKv(100 * kPageFormat.pageBytes()));
  cache.reserve(0, 70);
  cache.startStep(0, 70);
  cache.finishStep(0, 70);
  const std::vector<PrecisionClass> classes(kPageLayers, PrecisionClass::int4);
  test::throws([&] { cache.startConversion(0, 0, 3, classes); }, "not all full");
  test::throws([&] { cache.startConversion(0, 0, 2, classes); }, "a class for each page");
  test::throws([&] { cache.finishConversion(0); }, "slot 0 is not being converted");
  test::throws([&] { cache.reserve(0, 100, PrecisionClass::int4); }, "cannot be written to pages in int4");
  test::throws([&] { cache.startConversion(0, 2, 3, classes); }, "not all full");
  const std::vector<PrecisionClass> int8(kPageLayers, PrecisionClass::int8);
  test::throws([&] { cache.startConversion(0, 3, 4, int8); }, "not all full");
  cache.startConversion(0, 2, 3, int8);
  test::throws([&] { cache.checkTakesTokens(0); }, "takes no tokens till then");
  test::throws([&] { cache.startStep(0, 1); }, "takes no tokens till then");
  cache.conversionWritten(0);
  cache.dropConversion(0);
  cache.checkTakesTokens(0);
  cache.startConversion(0, 1, 2, classes);
  test::throws([&] { cache.release(0); }, "being converted");
  test::throws([&] { cache.replace(0, 0, 0); }, "being converted");
  cache.conversionWritten(0);
  cache.finishConversion(0);
  test::throws([&] { cache.fork(0, 1, 40); }, "packed block");
  test::throws([&] { cache.replace(0, 0, 0); }, "must be published");
  const std::int32_t packed = cache.publish(0, 1);
  test::throws([&] { cache.replace(0, 2, packed); }, "not full");
  cache.replace(0, 0, packed);
  test::equal(cache.heldBytes(PrecisionClass::int4),
              kPageLayers * kPageFormat.in(PrecisionClass::int4).pageBytes(),
              "bytes of a block that two places share");
  test::equal(cache.heldBytes(PrecisionClass::bf16), kPageLayers * kPageFormat.pageBytes(),
              "bytes of the last block");
  test::isTrue(cache.fork(0, 1, 64), "a fork after the packed block");
}

TEST("page classes: only int4 pages become far, and only where there are places") {
  const auto filled = [](KvCache& cache) {
    cache.reserve(0, 2 * kPageTokens);
    cache.startStep(0, 2 * kPageTokens);
    cache.finishStep(0, 2 * kPageTokens);
  };
  const std::vector<PrecisionClass> int4(2 * kPageLayers, PrecisionClass::int4);
  const std::vector<PrecisionClass> far(kPageLayers, PrecisionClass::far);
  const auto pack = [&](KvCache& cache) {
    cache.startConversion(0, 0, 2, int4);
    cache.conversionWritten(0);
    cache.finishConversion(0);
  };
  const auto memory = [] { return allocateHostKv(100 * kPageFormat.pageBytes()); };
  test::throws([&] { KvCache(kPageFormat, kPageLayers, 1, memory(), farMemory(kPageLayers - 1)); },
               "--pack-far-memory");
  KvCache none(kPageFormat, kPageLayers, 1, memory());
  filled(none);
  pack(none);
  test::isTrue(!none.startConversion(0, 0, 1, far), "no far memory, no far pages");
  KvCache cache(kPageFormat, kPageLayers, 1, memory(), farMemory(2 * kPageLayers - 1));
  filled(cache);
  test::throws([&] { cache.startConversion(0, 0, 1, far); }, "is in bf16; only one in int4 becomes far");
  test::throws([&] { cache.reserve(0, 100, PrecisionClass::far); }, "cannot be written to pages in far");
  pack(cache);
  test::equal(cache.freeFarBlocks(), std::int64_t{1}, "blocks that could become far");
  test::equal(cache.startConversion(0, 0, 1, far)->size(), std::size_t{kPageLayers}, "pages to write");
  test::equal(cache.freeFarBlocks(), std::int64_t{0}, "while they are written");
  cache.conversionWritten(0);
  cache.dropConversion(0);
  test::equal(cache.freeFarBlocks(), std::int64_t{1}, "when they were given up");
  cache.startConversion(0, 0, 1, far);
  cache.conversionWritten(0);
  cache.finishConversion(0);
  test::isTrue(!cache.startConversion(0, 1, 2, far), "places for one block only");
  test::equal(cache.heldBytes(PrecisionClass::far),
              kPageLayers * kPageFormat.in(PrecisionClass::far).pageBytes(), "bytes of outlines");
  test::equal(cache.startConversion(0, 0, 1, far)->size(), std::size_t{0}, "what is far stays so");
  cache.conversionWritten(0);
  cache.finishConversion(0);
  cache.drop(0, 0, 1);
  test::equal(cache.freeFarBlocks(), std::int64_t{1}, "a dropped block gives its places back");
}
