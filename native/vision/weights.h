#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/ops.h"
#include "model/checkpoint-reader.h"
#include "vision/spec.h"

namespace tandem::vision {

struct NormWeights {
  std::vector<float> gain, bias;
};

struct LinearWeights {
  std::unique_ptr<Weight> matrix;
  std::vector<float> bias;  // empty: none
};

struct LayerWeights {
  NormWeights attentionNorm;
  LinearWeights qkv, output;
  NormWeights ffnNorm;
  LinearWeights up, down;
};

// Matrices in bf16, the rest in float32.
struct Weights {
  LinearWeights patches;         // [hidden, patchValues()]
  std::vector<float> positions;  // [patches, hidden]
  std::vector<LayerWeights> layers;
  NormWeights finalNorm;
  LinearWeights connector;  // [decoderHidden, shuffledWidth()]

  std::size_t bytes() const;
};

// Packs the tensors of a tower and its connector, under the names that Idefics3's checkpoints give them.
// Throws Error as CheckpointReader does.
Weights loadWeights(const Spec& spec, std::span<const std::string> files,
                    std::span<const TensorEntry> tensors, bool checkFinite);

}  // namespace tandem::vision
