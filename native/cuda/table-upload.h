#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cuda/slot-tables.h"
#include "cuda/step-block.h"
#include "cuda/update-tables.h"

namespace tandem::cuda {

// Brings to the device what its page tables lack, in the blocks of a lane's steps.
class TableUpload {
 public:
  // What it takes of a step's block at most.
  static std::size_t blockBytes(int slots);

  explicit TableUpload(SlotTables& tables);

  // Finds what the device lacks of these tables. If it is too much to go up with the step's arrays, most goes
  // before, through the block, which must be empty.
  void collect(std::span<const KvTable> tables, StepBlock& block, Stream stream);
  // Uploads the block, with what was found of the same tables as its last arrays, and writes that where it
  // belongs.
  void send(std::span<const KvTable> tables, StepBlock& block, Stream stream);

 private:
  void write(StepBlock& block, Stream stream);

  SlotTables& tables_;
  // Kept, so that a step allocates nothing.
  std::vector<TableUpdate> updates_;
  std::vector<std::uint64_t> values_;
};

}  // namespace tandem::cuda
