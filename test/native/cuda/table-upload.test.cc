#include "cuda/table-upload.h"

#include <algorithm>
#include <vector>

#include "check.h"
#include "cuda/runtime.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr int kTableLayers = 2, kTableSlots = 3;

// A slot's table whose pages have made-up addresses, which nobody reads.
struct MadeUpTable {
  std::vector<std::vector<std::byte*>> pages{kTableLayers};
  std::vector<std::vector<PrecisionClass>> classes{kTableLayers};
  int slot;
  std::uint64_t version = 1;

  MadeUpTable(int slot, std::int64_t count) : slot(slot) { grow(count); }

  void grow(std::int64_t count) {
    for (int layer = 0; layer < kTableLayers; ++layer) {
      for (auto page = static_cast<std::int64_t>(pages[layer].size()); page < count; ++page) set(layer, page);
    }
  }
  void set(int layer, std::int64_t page, std::uint64_t turn = 0) {
    const auto place = static_cast<std::size_t>(page);
    pages[layer].resize(std::max(pages[layer].size(), place + 1));
    classes[layer].resize(pages[layer].size());
    pages[layer][place] = reinterpret_cast<std::byte*>(
        (((turn * kTableSlots + slot) * kTableLayers + layer + 1) << 40) + (page << 8));
    classes[layer][place] = page % 2 == 0 ? PrecisionClass::bf16 : PrecisionClass::int8;
  }
  KvTable table() const { return {slot, version, pages, classes}; }
};

// The tables of three slots on the device, and one lane's way there.
struct TablesOnDevice {
  cuda::OwnStream stream;
  cuda::SlotTables tables;
  cuda::StepBlock block;
  cuda::TableUpload upload{tables};

  explicit TablesOnDevice(std::int64_t slotPages)
      : tables(kTableLayers, kTableSlots, slotPages),
        block(cuda::TableUpload::blockBytes(kTableSlots) + 64, "a test") {}

  void bring(const std::vector<KvTable>& some) {
    block.clear();
    upload.collect(some, block, stream);
    upload.send(some, block, stream);
  }
  // Whether the device has the table of a slot.
  bool has(const MadeUpTable& table) {
    const std::size_t count = table.pages[0].size();
    const cuda::PinnedMemory row(count * sizeof(std::uint64_t), "a test");
    for (int layer = 0; layer < kTableLayers; ++layer) {
      cuda::copyToHost(row.data(), tables.entriesOf(layer) + table.slot * tables.slotStride(), row.bytes(),
                       stream);
      cuda::synchronize(stream);
      for (std::size_t page = 0; page < count; ++page) {
        if (row.as<std::uint64_t>()[page] !=
            cuda::pageEntry(table.pages[layer][page], table.classes[layer][page])) {
          return false;
        }
      }
    }
    return true;
  }
};

}  // namespace

TEST("cuda table upload: brings what the device lacks of a table, and all of it when a page was exchanged") {
  TablesOnDevice device(40);
  MadeUpTable first(2, 20), second(0, 7);
  device.bring({first.table(), second.table()});
  isTrue(device.has(first) && device.has(second), "new tables");
  first.grow(30);
  // One that was changed behind the version's back shows what is not brought again.
  first.set(1, 3, 1);
  device.bring({first.table()});
  isTrue(!device.has(first), "pages that the device has are not brought again");
  ++first.version;
  device.bring({first.table()});
  isTrue(device.has(first) && device.has(second), "a table whose version is another");
  first.grow(41 + 16);
  throws([&] { device.bring({first.table()}); }, "has room for");
}

TEST("cuda table upload: what is too much for one block goes up in several") {
  // In two layers the first two tables fill a block and a half.
  TablesOnDevice device(70'000);
  const MadeUpTable first(1, 60'000), second(2, 40'000), third(0, 1);
  device.bring({first.table(), second.table(), third.table()});
  isTrue(device.has(first), "the first");
  isTrue(device.has(second), "the one that is cut");
  isTrue(device.has(third), "the last");
}
