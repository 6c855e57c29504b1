#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cuda/page-tables.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// The page tables of all slots, [layers][slots][slotStride] entries on the device, and what of them the
// device has already. Both lanes use it at once, for different slots.
class SlotTables {
 public:
  SlotTables(int layers, int slots, std::int64_t slotPages);

  int layers() const { return layers_; }
  int slots() const { return static_cast<int>(known_.size()); }
  std::int64_t slotStride() const { return stride_; }
  std::uint64_t* entries() const { return entries_.as<std::uint64_t>(); }
  const std::uint64_t* entriesOf(int layer) const { return entries() + layer * slots() * stride_; }

  // The first page of the slot whose entries the device lacks; all before it are as they were.
  // Throws Error if the slot has more pages than there is room for.
  std::int64_t firstUnknown(const KvTable& table) const;
  // From now on the device has the entries of the pages before `pages`.
  void setKnown(const KvTable& table, std::int64_t pages);

 private:
  struct Known {
    std::uint64_t version = 0;
    std::int64_t pages = 0;
  };

  int layers_;
  std::int64_t stride_;
  DeviceMemory entries_;
  std::vector<Known> known_;
};

}  // namespace tandem::cuda
