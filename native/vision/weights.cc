#include "vision/weights.h"

#include <initializer_list>

#include "core/half.h"
#include "core/thread-team.h"
#include "cpu/matmul/matmul.h"

namespace tandem::vision {
namespace {

class Loader {
 public:
  Loader(const Spec& spec, std::span<const std::string> files, std::span<const TensorEntry> tensors,
         bool checkFinite)
      : spec_(spec), reader_(files, tensors, checkFinite) {}

  Weights load() {
    const std::string tower = "model.vision_model.", embeddings = tower + "embeddings.";
    Weights weights;
    const std::int64_t kernel[] = {spec_.hidden, Spec::channels, spec_.patchSize, spec_.patchSize};
    const CheckpointMatrix patches = reader_.matrix(embeddings + "patch_embedding.weight", kernel);
    weights.patches = {pack({&patches, 1}),
                       reader_.vector(embeddings + "patch_embedding.bias", spec_.hidden)};
    weights.positions =
        table(reader_.matrix(embeddings + "position_embedding.weight", spec_.patches(), spec_.hidden));
    for (int layer = 0; layer < spec_.layers; ++layer) {
      weights.layers.push_back(loadLayer(tower + "encoder.layers." + std::to_string(layer) + "."));
    }
    weights.finalNorm = norm(tower + "post_layernorm");
    const CheckpointMatrix connector = reader_.matrix("model.connector.modality_projection.proj.weight",
                                                      spec_.decoderHidden, spec_.shuffledWidth());
    weights.connector.matrix = pack({&connector, 1});
    return weights;
  }

 private:
  LayerWeights loadLayer(const std::string& at) {
    const std::string attention = at + "self_attn.";
    LayerWeights weights;
    weights.attentionNorm = norm(at + "layer_norm1");
    weights.qkv = stacked({attention + "q_proj", attention + "k_proj", attention + "v_proj"}, spec_.hidden,
                          spec_.hidden);
    weights.output = stacked({attention + "out_proj"}, spec_.hidden, spec_.hidden);
    weights.ffnNorm = norm(at + "layer_norm2");
    weights.up = stacked({at + "mlp.fc1"}, spec_.ffn, spec_.hidden);
    weights.down = stacked({at + "mlp.fc2"}, spec_.hidden, spec_.ffn);
    return weights;
  }

  NormWeights norm(const std::string& name) {
    return {reader_.vector(name + ".weight", spec_.hidden), reader_.vector(name + ".bias", spec_.hidden)};
  }

  LinearWeights stacked(std::initializer_list<std::string> names, std::int64_t outputs, std::int64_t inputs) {
    std::vector<CheckpointMatrix> parts;
    LinearWeights weights;
    for (const std::string& name : names) {
      parts.push_back(reader_.matrix(name + ".weight", outputs, inputs));
      const std::vector<float> bias = reader_.vector(name + ".bias", outputs);
      weights.bias.insert(weights.bias.end(), bias.begin(), bias.end());
    }
    weights.matrix = pack(parts);
    return weights;
  }

  static std::vector<float> table(const CheckpointMatrix& matrix) {
    std::vector<float> values(static_cast<std::size_t>(matrix.rows * matrix.cols));
    for (std::int64_t row = 0; row < matrix.rows; ++row) {
      readCheckpointRow(matrix, row,
                        std::span(values).subspan(static_cast<std::size_t>(row * matrix.cols),
                                                  static_cast<std::size_t>(matrix.cols)));
    }
    return values;
  }

  std::unique_ptr<Weight> pack(std::span<const CheckpointMatrix> parts) {
    return cpu::packWeight(parts, WeightLayout::stacked, WeightClass::bf16, team_);
  }

  const Spec& spec_;
  CheckpointReader reader_;
  ThreadTeam team_{1};
};

}  // namespace

std::size_t Weights::bytes() const {
  std::size_t total = patches.matrix->bytes() + positions.size() * sizeof(float) + connector.matrix->bytes();
  for (const LayerWeights& layer : layers) {
    for (const LinearWeights* linear : {&layer.qkv, &layer.output, &layer.up, &layer.down}) {
      total += linear->matrix->bytes() + linear->bias.size() * sizeof(float);
    }
  }
  return total;
}

Weights loadWeights(const Spec& spec, std::span<const std::string> files,
                    std::span<const TensorEntry> tensors, bool checkFinite) {
  checkSpec(spec);
  return Loader(spec, files, tensors, checkFinite).load();
}

}  // namespace tandem::vision
