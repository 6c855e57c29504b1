#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/ops.h"
#include "model/checkpoint-reader.h"
#include "model/model-spec.h"

namespace tandem {

struct LayerWeights {
  std::vector<float> inputNorm;
  std::unique_ptr<Weight> qkv;
  std::vector<float> qkvBias;  // empty: none, as for the others
  std::vector<float> qNorm;
  std::vector<float> kNorm;
  std::unique_ptr<Weight> output;
  std::vector<float> outputBias;
  std::vector<float> ffnNorm;
  std::unique_ptr<Weight> gateUp;
  std::vector<float> gateUpBias;
  std::unique_ptr<Weight> down;
  std::vector<float> downBias;
};

struct Weights {
  CheckpointMemory memory;     // `embedding` reads from it
  CheckpointMatrix embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  std::vector<float> finalNorm;
  std::unique_ptr<Weight> head;

  std::size_t bytes() const;
};

struct WeightOptions {
  WeightClass weightClass = WeightClass::bf16;
  bool checkFinite = false;
  // What the names of all tensors but `lm_head.weight` begin with.
  std::string tensorPrefix = "model.";
  // Called with bytes of checkpoint read so far and in all.
  std::function<void(std::uint64_t done, std::uint64_t total)> onProgress;
};

// Finds each of the spec's tensors under its Hugging Face name, checks its shape and place in the file, and
// packs it. Throws Error naming file, tensor, what was expected and what was found.
Weights loadWeights(const ModelSpec& spec, std::span<const std::string> files,
                    std::span<const TensorEntry> tensors, Backend& backend, const WeightOptions& options);

}  // namespace tandem
