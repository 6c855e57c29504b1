#pragma once

#include <cstdint>

#include "cuda/stream.h"

namespace tandem::cuda {

// New entries of a slot's table: the pages [first, first + count), in all layers.
struct TableUpdate {
  std::int32_t slot;
  std::int32_t first;
  std::int32_t count;
  std::int32_t value;  // of the first layer's first page; layer after layer from there
};

// Writes updates into the page tables of all slots (cuda/page-tables.h). All on the device.
struct UpdateTables {
  std::uint64_t* entries = nullptr;  // [layers, slots, slotStride]
  int layers = 0;
  int slots = 0;
  std::int64_t slotStride = 0;
  const TableUpdate* updates = nullptr;
  int updateCount = 0;
  const std::uint64_t* values = nullptr;
};

void updateTables(const UpdateTables& problem, Stream stream);

}  // namespace tandem::cuda
