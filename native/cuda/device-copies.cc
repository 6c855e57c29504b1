#include "cuda/device-copies.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/half.h"

namespace tandem::cuda {
namespace {

constexpr std::int64_t kStagingElements = std::int64_t{4} << 20;

}  // namespace

void DeviceCopies::add(std::span<const float> values, Stream stream) {
  if (values.empty() || copies_.contains(values.data())) return;
  DeviceMemory memory(values.size_bytes(), "norms and biases");
  copyToDevice(memory.data(), values.data(), values.size_bytes(), stream);
  copies_.emplace(values.data(), std::move(memory));
}

void DeviceCopies::add(const CheckpointMatrix& table, Stream stream) {
  if (copies_.contains(table.data)) return;
  DeviceMemory memory(static_cast<std::size_t>(table.rows * table.cols) * sizeof(bf16),
                      "the embedding table");
  const std::int64_t rows = std::clamp<std::int64_t>(kStagingElements / table.cols, 1, table.rows);
  const PinnedMemory staging(static_cast<std::size_t>(rows * table.cols) * sizeof(bf16),
                             "loading the embedding table");
  std::vector<float> row(static_cast<std::size_t>(table.cols));
  for (std::int64_t begin = 0; begin < table.rows; begin += rows) {
    const std::int64_t count = std::min(rows, table.rows - begin);
    for (std::int64_t i = 0; i < count; ++i) {
      readCheckpointRow(table, begin + i, row);
      std::ranges::transform(row, staging.as<bf16>() + i * table.cols, toBf16);
    }
    copyToDevice(memory.as<bf16>() + begin * table.cols, staging.data(),
                 static_cast<std::size_t>(count * table.cols) * sizeof(bf16), stream);
    synchronize(stream);
  }
  copies_.emplace(table.data, std::move(memory));
}

const DeviceMemory& DeviceCopies::find(const void* address) const {
  const auto found = copies_.find(address);
  check(found != copies_.end(), "an op was given values that the device has no copy of");
  return found->second;
}

const float* DeviceCopies::of(std::span<const float> values) const {
  return values.empty() ? nullptr : find(values.data()).as<float>();
}

const bf16* DeviceCopies::of(const CheckpointMatrix& table) const { return find(table.data).as<bf16>(); }

}  // namespace tandem::cuda
