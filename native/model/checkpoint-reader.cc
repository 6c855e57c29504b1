#include "model/checkpoint-reader.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/half.h"

namespace tandem {
namespace {

std::string shapeText(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

void requireFinite(const std::string& path, const std::string& name, const CheckpointMatrix& matrix) {
  std::vector<float> row(matrix.cols);
  for (std::int64_t i = 0; i < matrix.rows; ++i) {
    readCheckpointRow(matrix, i, row);
    for (std::int64_t j = 0; j < matrix.cols; ++j) {
      if (std::isfinite(row[j])) continue;
      throw Error(path + ": tensor " + name + " holds " + (std::isnan(row[j]) ? "NaN" : "infinity") +
                  " at [" + std::to_string(i) + ", " + std::to_string(j) + "]");
    }
  }
}

}  // namespace

CheckpointReader::CheckpointReader(std::span<const std::string> files, std::span<const TensorEntry> tensors,
                                   bool checkFinite)
    : checkFinite_(checkFinite) {
  for (const std::string& path : files) memory_.files.emplace_back(path);
  for (const TensorEntry& tensor : tensors) {
    checkPlace(tensor.name, tensor.file, tensor.begin, tensor.end);
    if (tensor.scales) {
      checkPlace("the scales of " + tensor.name, tensor.scales->file, tensor.scales->begin,
                 tensor.scales->end);
    }
    if (!tensors_.emplace(tensor.name, &tensor).second)
      throw Error("tensor " + tensor.name + " is there twice");
  }
  for (const TensorEntry& tensor : tensors) total_ += tensor.end - tensor.begin;
}

void CheckpointReader::checkPlace(const std::string& name, int place, std::uint64_t begin,
                                  std::uint64_t end) const {
  if (place < 0 || place >= static_cast<int>(memory_.files.size())) {
    throw Error("tensor " + name + " lies in file " + std::to_string(place) + ", which is not there");
  }
  const MappedFile& file = memory_.files[place];
  if (begin > end || end > file.bytes().size()) {
    throw Error(file.path() + ": tensor " + name + " ends at byte " + std::to_string(end) + " of a file of " +
                std::to_string(file.bytes().size()) + " bytes; is the file truncated?");
  }
}

const TensorEntry& CheckpointReader::find(const std::string& name,
                                          std::span<const std::int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw Error("the checkpoint has no tensor " + name + ", expected shape " + shapeText(shape));
  }
  const TensorEntry& tensor = *found->second;
  const std::string& path = memory_.files[tensor.file].path();
  if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
    throw Error(path + ": tensor " + name + " has shape " + shapeText(tensor.shape) + ", expected " +
                shapeText(shape));
  }
  std::uint64_t bytes = checkpointBytes(tensor.type);
  for (const std::int64_t size : shape) bytes *= static_cast<std::uint64_t>(size);
  if (tensor.end - tensor.begin != bytes) {
    throw Error(path + ": tensor " + name + " has " + std::to_string(tensor.end - tensor.begin) +
                " bytes, expected " + std::to_string(bytes));
  }
  return tensor;
}

CheckpointMatrix CheckpointReader::matrix(const std::string& name, std::span<const std::int64_t> shape) {
  std::int64_t cols = 1;
  for (const std::int64_t size : shape.subspan(1)) cols *= size;
  return read(find(name, shape), shape[0], cols);
}

CheckpointMatrix CheckpointReader::matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  const std::int64_t shape[] = {rows, cols};
  return matrix(name, shape);
}

std::vector<float> CheckpointReader::vector(const std::string& name, std::int64_t size) {
  const std::int64_t shape[] = {size};
  const CheckpointMatrix row = read(find(name, shape), 1, size);
  std::vector<float> values(size);
  readCheckpointRow(row, 0, values);
  return values;
}

CheckpointMatrix CheckpointReader::read(const TensorEntry& tensor, std::int64_t rows, std::int64_t cols) {
  const MappedFile& file = memory_.files[tensor.file];
  CheckpointMatrix matrix{file.bytes().data() + tensor.begin, tensor.type, rows, cols};
  if (tensor.type == CheckpointType::e4m3) matrix.scales = readScales(tensor, rows, cols);
  if (checkFinite_) requireFinite(file.path(), tensor.name, matrix);
  read_ += tensor.end - tensor.begin;
  return matrix;
}

// They stay where they are until the weights are loaded.
CheckpointScales CheckpointReader::readScales(const TensorEntry& tensor, std::int64_t rows,
                                              std::int64_t cols) {
  if (!tensor.scales) throw Error("tensor " + tensor.name + " is in fp8 and has no scales");
  const ScaleEntry& entry = *tensor.scales;
  const std::string& path = memory_.files[entry.file].path();
  if (entry.blockRows < 1 || entry.blockCols < 1 || entry.type == CheckpointType::e4m3) {
    throw Error(path + ": the scales of tensor " + tensor.name + " must be floats of blocks");
  }
  const std::int64_t count =
      (rows + entry.blockRows - 1) / entry.blockRows * ((cols + entry.blockCols - 1) / entry.blockCols);
  const std::uint64_t bytes = static_cast<std::uint64_t>(count) * checkpointBytes(entry.type);
  if (entry.end - entry.begin != bytes) {
    throw Error(path + ": the scales of tensor " + tensor.name + " have " +
                std::to_string(entry.end - entry.begin) + " bytes, expected " + std::to_string(bytes));
  }
  std::vector<float>& values = memory_.scales.emplace_back(count);
  readCheckpointRow({memory_.files[entry.file].bytes().data() + entry.begin, entry.type, 1, count}, 0,
                    values);
  return {values.data(), entry.blockRows, entry.blockCols};
}

}  // namespace tandem
