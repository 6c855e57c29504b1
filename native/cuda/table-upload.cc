#include "cuda/table-upload.h"

#include <algorithm>

namespace tandem::cuda {
namespace {

// Table entries that go up at a time: the table of a sequence of 100,000 tokens in 64 layers comes in two.
constexpr std::size_t kMostValues = std::size_t{1} << 17;

}  // namespace

std::size_t TableUpload::blockBytes(int slots) {
  // A table may have more than one update where it is cut.
  return static_cast<std::size_t>(slots) * 2 * sizeof(TableUpdate) + kMostValues * sizeof(std::uint64_t);
}

TableUpload::TableUpload(SlotTables& tables) : tables_(tables) {}

void TableUpload::collect(std::span<const KvTable> tables, StepBlock& block, Stream stream) {
  const auto layers = static_cast<std::int64_t>(tables_.layers());
  updates_.clear();
  values_.clear();
  for (const KvTable& table : tables) {
    const auto pages = static_cast<std::int64_t>(table.pages[0].size());
    for (std::int64_t first = tables_.firstUnknown(table); first < pages;) {
      auto room = static_cast<std::int64_t>(kMostValues - values_.size()) / layers;
      if (room == 0) {
        write(block, stream);
        synchronize(stream);
        block.clear();
        updates_.clear();
        values_.clear();
        room = static_cast<std::int64_t>(kMostValues) / layers;
      }
      const std::int64_t count = std::min(pages - first, room);
      updates_.push_back({table.slot, static_cast<std::int32_t>(first), static_cast<std::int32_t>(count),
                          static_cast<std::int32_t>(values_.size())});
      for (std::int64_t layer = 0; layer < layers; ++layer) {
        for (std::int64_t page = first; page < first + count; ++page) {
          values_.push_back(pageEntry(table.pages[layer][page], table.classes[layer][page]));
        }
      }
      first += count;
    }
  }
}

void TableUpload::send(std::span<const KvTable> tables, StepBlock& block, Stream stream) {
  write(block, stream);
  for (const KvTable& table : tables) {
    tables_.setKnown(table, static_cast<std::int64_t>(table.pages[0].size()));
  }
}

void TableUpload::write(StepBlock& block, Stream stream) {
  const TableUpdate* updates = block.add(updates_);
  const std::uint64_t* values = block.add(values_);
  block.upload(stream);
  updateTables({tables_.entries(), tables_.layers(), tables_.slots(), tables_.slotStride(), updates,
                static_cast<int>(updates_.size()), values},
               stream);
}

}  // namespace tandem::cuda
