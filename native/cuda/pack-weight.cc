#include "cuda/pack-weight.h"

#include <algorithm>

#include "core/error.h"
#include "core/half.h"
#include "cuda/matmul.h"
#include "cuda/rows-map.h"

namespace tandem::cuda {
namespace {

// Two pieces of a matrix are on their way at a time: one is copied into pinned memory while the other goes to
// the device and is packed.
constexpr std::size_t kPieceBytes = std::size_t{4} << 20;

std::int64_t roundedUp(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

WeightTiles tilesOf(std::span<const CheckpointMatrix> parts, WeightLayout layout, WeightClass weightClass) {
  check(!parts.empty() && parts[0].cols > 0, "a weight needs at least one matrix with inputs");
  check(parts[0].cols % 8 == 0, "CUDA matmuls support inputs of a multiple of 8");
  WeightTiles tiles;
  tiles.weightClass = weightClass;
  tiles.inputs = parts[0].cols;
  for (const CheckpointMatrix& part : parts) {
    check(part.cols == tiles.inputs, "matrices packed as one weight must have equal inputs");
    tiles.outputs += part.rows;
  }
  check(tiles.outputs > 0, "a weight needs outputs");
  std::int64_t places = tiles.outputs;
  if (layout == WeightLayout::gated) {
    check(parts.size() == 2 && parts[0].rows == parts[1].rows,
          "a gated weight is a gate and an up of one shape");
    places = 2 * roundedUp(parts[0].rows, kOutputsOfUnit);
  }
  tiles.paddedOutputs = roundedUp(places, kTileOutputs);
  tiles.paddedInputs = roundedUp(tiles.inputs, kInputsMultiple);
  return tiles;
}

// None where the matrix has none.
DeviceMemory uploadScales(const CheckpointMatrix& part, Stream stream) {
  const CheckpointScales& scales = part.scales;
  if (!scales.values) return {};
  const std::int64_t count = roundedUp(part.rows, scales.blockRows) / scales.blockRows *
                             (roundedUp(part.cols, scales.blockCols) / scales.blockCols);
  DeviceMemory memory(static_cast<std::size_t>(count) * sizeof(float), "scales of weights");
  copyToDevice(memory.data(), scales.values, memory.bytes(), stream);
  return memory;
}

// Copies and packs pieces, in turn through two buffers.
class Packer {
 public:
  Packer(std::size_t pieceBytes, Stream stream) : stream_(stream) {
    for (Buffer& buffer : buffers_) {
      buffer.pinned = PinnedMemory(pieceBytes, "packing weights");
      buffer.device = DeviceMemory(pieceBytes, "packing weights");
    }
  }

  void pack(PackRows rows, const std::byte* source, std::size_t bytes) {
    Buffer& buffer = buffers_[turn_ ^= 1];
    buffer.free.wait();
    std::copy(source, source + bytes, buffer.pinned.data());
    copyToDevice(buffer.device.data(), buffer.pinned.data(), bytes, stream_);
    rows.source = buffer.device.data();
    packRows(rows, stream_);
    buffer.free.record(stream_);
  }

 private:
  struct Buffer {
    PinnedMemory pinned;
    DeviceMemory device;
    Event free;
  };
  Stream stream_;
  Buffer buffers_[2];
  int turn_ = 0;
};

}  // namespace

std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix> parts, WeightLayout layout,
                                   WeightClass weightClass, Stream stream) {
  auto weight = std::make_unique<CudaWeight>();
  weight->layout_ = layout;
  weight->wgmma_ = hasWgmma();
  WeightTiles& tiles = weight->tiles_;
  tiles = tilesOf(parts, layout, weightClass);
  weight->memory_ = DeviceMemory(tiles.bytes(), "weights");
  tiles.data = weight->memory_.data();
  setBytes(weight->memory_.data(), 0, tiles.bytes(), stream);

  std::size_t largestRow = 0, largestPart = 0;
  for (const CheckpointMatrix& part : parts) {
    const std::size_t rowBytes = part.cols * checkpointBytes(part.type);
    largestRow = std::max(largestRow, rowBytes);
    largestPart = std::max(largestPart, rowBytes * part.rows);
  }
  Packer packer(std::max(largestRow, std::min(largestPart, kPieceBytes)), stream);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const CheckpointMatrix& part = parts[i];
    const std::size_t rowBytes = part.cols * checkpointBytes(part.type);
    const DeviceMemory scales = uploadScales(part, stream);
    const std::int64_t perPiece = std::max<std::int64_t>(1, kPieceBytes / rowBytes);
    for (std::int64_t row = 0; row < part.rows; row += perPiece) {
      PackRows rows;
      rows.type = part.type;
      rows.scales = part.scales;
      rows.scales.values = scales.as<float>();
      rows.matrixRow = row;
      rows.rows = std::min(perPiece, part.rows - row);
      rows.first = first + row;
      if (layout == WeightLayout::gated) {
        rows.turns = 2;
        rows.turn = static_cast<int>(i);
      }
      rows.tiles = tiles;
      rows.out = weight->memory_.data();
      packer.pack(rows, part.data + row * rowBytes, rows.rows * rowBytes);
    }
    if (layout == WeightLayout::stacked) first += part.rows;
    if (part.scales.values) synchronize(stream);  // they are about to go
  }
  synchronize(stream);
  return weight;
}

}  // namespace tandem::cuda
