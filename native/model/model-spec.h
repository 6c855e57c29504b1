#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/ops.h"

namespace tandem {

// The decoder's description; the fields are those of engine/model/model-spec.ts.
struct ModelSpec {
  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kvHeads = 0;
  int headDim = 0;
  int ffn = 0;
  int vocab = 0;
  float normEps = 1e-5f;
  RopeTable rope;
  bool attentionBias = false;
  bool outputBias = false;
  bool mlpBias = false;
  bool qkNorm = false;
  bool tiedEmbeddings = false;
  std::vector<int> slidingWindow;  // by layer; 0: none
  bool readsImages = false;        // tokens of its sequences may stand for rows of their own

  int qkvWidth() const { return (heads + 2 * kvHeads) * headDim; }
};

// Of a tensor in fp8: as many floats as its blocks ask for; see CheckpointScales.
struct ScaleEntry {
  CheckpointType type = CheckpointType::f32;
  int file = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::int64_t blockRows = 1;
  std::int64_t blockCols = 1;
};

struct TensorEntry {
  std::string name;
  CheckpointType type = CheckpointType::bf16;
  std::vector<std::int64_t> shape;
  int file = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::optional<ScaleEntry> scales = std::nullopt;
};

// Throws Error naming the field if a dimension is not one that the kernels can take.
void checkSpec(const ModelSpec& spec);

}  // namespace tandem
