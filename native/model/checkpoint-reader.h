#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/ops.h"
#include "model/mapped-file.h"
#include "model/model-spec.h"

namespace tandem {

// Mapped files, and scales that were read for matrices in fp8: what matrices that were read point into.
struct CheckpointMemory {
  std::vector<MappedFile> files;
  std::deque<std::vector<float>> scales;
};

// Finds tensors by their Hugging Face names, and checks their shapes and places in the files. Throws Error
// naming file, tensor, what was expected and what was found. The entries must outlive it.
class CheckpointReader {
 public:
  CheckpointReader(std::span<const std::string> files, std::span<const TensorEntry> tensors,
                   bool checkFinite);

  // One of [rows, cols]; of more dimensions the latter ones are taken together.
  CheckpointMatrix matrix(const std::string& name, std::span<const std::int64_t> shape);
  CheckpointMatrix matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  std::vector<float> vector(const std::string& name, std::int64_t size);

  std::uint64_t totalBytes() const { return total_; }
  std::uint64_t readBytes() const { return read_; }

  // What was read lies in it; nothing may be read any more.
  CheckpointMemory release() { return std::move(memory_); }

 private:
  void checkPlace(const std::string& name, int place, std::uint64_t begin, std::uint64_t end) const;
  const TensorEntry& find(const std::string& name, std::span<const std::int64_t> shape) const;
  CheckpointMatrix read(const TensorEntry& tensor, std::int64_t rows, std::int64_t cols);
  CheckpointScales readScales(const TensorEntry& tensor, std::int64_t rows, std::int64_t cols);

  CheckpointMemory memory_;
  std::unordered_map<std::string, const TensorEntry*> tensors_;
  bool checkFinite_;
  std::uint64_t total_ = 0, read_ = 0;
};

}  // namespace tandem
