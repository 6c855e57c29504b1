#include "cuda/slot-tables.h"

#include <string>

#include "core/error.h"

namespace tandem::cuda {

SlotTables::SlotTables(int layers, int slots, std::int64_t slotPages)
    : layers_(layers),
      // Rows begin where a 128-byte line does.
      stride_((slotPages + 15) / 16 * 16),
      entries_(static_cast<std::size_t>(layers) * slots * stride_ * sizeof(std::uint64_t),
               "page tables; lower the longest sequence or the number of sequences"),
      known_(static_cast<std::size_t>(slots)) {}

std::int64_t SlotTables::firstUnknown(const KvTable& table) const {
  const auto pages = static_cast<std::int64_t>(table.pages[0].size());
  if (pages > stride_) {
    throw Error("slot " + std::to_string(table.slot) + " has " + std::to_string(pages) +
                " pages a layer, and its table on the device has room for " + std::to_string(stride_));
  }
  const Known& known = known_.at(static_cast<std::size_t>(table.slot));
  return known.version == table.version ? known.pages : 0;
}

void SlotTables::setKnown(const KvTable& table, std::int64_t pages) {
  known_[static_cast<std::size_t>(table.slot)] = {table.version, pages};
}

}  // namespace tandem::cuda
