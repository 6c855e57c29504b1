#include "model/weights.h"

#include <algorithm>
#include <utility>

#include "core/half.h"

namespace tandem {
namespace {

class Loader {
 public:
  Loader(const ModelSpec& spec, std::span<const std::string> files, std::span<const TensorEntry> tensors,
         Backend& backend, const WeightOptions& options)
      : spec_(spec),
        backend_(backend),
        options_(options),
        prefix_(options.tensorPrefix),
        reader_(files, tensors, options.checkFinite) {}

  Weights load() {
    weights_.embedding = matrix(prefix_ + "embed_tokens.weight", spec_.vocab, spec_.hidden);
    for (int layer = 0; layer < spec_.layers; ++layer) weights_.layers.push_back(loadLayer(layer));
    weights_.finalNorm = vector(prefix_ + "norm.weight", spec_.hidden);
    const CheckpointMatrix head =
        spec_.tiedEmbeddings ? weights_.embedding : matrix("lm_head.weight", spec_.vocab, spec_.hidden);
    weights_.head = pack({&head, 1}, WeightLayout::stacked);
    keepValues();
    weights_.memory = reader_.release();
    return std::move(weights_);
  }

 private:
  void keepValues() {
    backend_.keep(weights_.embedding);
    backend_.keep(weights_.finalNorm);
    for (const LayerWeights& layer : weights_.layers) {
      for (const std::vector<float>* values :
           {&layer.inputNorm, &layer.qkvBias, &layer.qNorm, &layer.kNorm, &layer.outputBias, &layer.ffnNorm,
            &layer.gateUpBias, &layer.downBias}) {
        if (!values->empty()) backend_.keep(*values);
      }
    }
  }

  LayerWeights loadLayer(int layer) {
    const std::string prefix = prefix_ + "layers." + std::to_string(layer) + ".";
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    const int queries = spec_.heads * spec_.headDim, keys = spec_.kvHeads * spec_.headDim;
    LayerWeights weights;
    weights.inputNorm = vector(prefix + "input_layernorm.weight", spec_.hidden);
    const CheckpointMatrix qkv[] = {matrix(attention + "q_proj.weight", queries, spec_.hidden),
                                    matrix(attention + "k_proj.weight", keys, spec_.hidden),
                                    matrix(attention + "v_proj.weight", keys, spec_.hidden)};
    weights.qkv = pack(qkv, WeightLayout::stacked);
    if (spec_.attentionBias) {
      weights.qkvBias = vector(attention + "q_proj.bias", queries);
      for (const char* name : {"k_proj.bias", "v_proj.bias"}) {
        const std::vector<float> bias = vector(attention + name, keys);
        weights.qkvBias.insert(weights.qkvBias.end(), bias.begin(), bias.end());
      }
    }
    if (spec_.qkNorm) {
      weights.qNorm = vector(attention + "q_norm.weight", spec_.headDim);
      weights.kNorm = vector(attention + "k_norm.weight", spec_.headDim);
    }
    const CheckpointMatrix output = matrix(attention + "o_proj.weight", spec_.hidden, queries);
    weights.output = pack({&output, 1}, WeightLayout::stacked);
    if (spec_.outputBias) weights.outputBias = vector(attention + "o_proj.bias", spec_.hidden);

    weights.ffnNorm = vector(prefix + "post_attention_layernorm.weight", spec_.hidden);
    const CheckpointMatrix gateUp[] = {matrix(mlp + "gate_proj.weight", spec_.ffn, spec_.hidden),
                                       matrix(mlp + "up_proj.weight", spec_.ffn, spec_.hidden)};
    weights.gateUp = pack(gateUp, WeightLayout::gated);
    const CheckpointMatrix down = matrix(mlp + "down_proj.weight", spec_.hidden, spec_.ffn);
    weights.down = pack({&down, 1}, WeightLayout::stacked);
    if (spec_.mlpBias) {
      weights.gateUpBias = vector(mlp + "gate_proj.bias", spec_.ffn);
      const std::vector<float> up = vector(mlp + "up_proj.bias", spec_.ffn);
      weights.gateUpBias.insert(weights.gateUpBias.end(), up.begin(), up.end());
      weights.downBias = vector(mlp + "down_proj.bias", spec_.hidden);
    }
    return weights;
  }

  CheckpointMatrix matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    return reader_.matrix(name, rows, cols);
  }

  std::vector<float> vector(const std::string& name, std::int64_t size) { return reader_.vector(name, size); }

  std::unique_ptr<Weight> pack(std::span<const CheckpointMatrix> parts, WeightLayout layout) {
    auto weight = backend_.packWeight(parts, layout, options_.weightClass);
    if (options_.onProgress) {
      options_.onProgress(std::min(reader_.readBytes(), reader_.totalBytes()), reader_.totalBytes());
    }
    return weight;
  }

  const ModelSpec& spec_;
  Backend& backend_;
  const WeightOptions& options_;
  const std::string& prefix_;
  CheckpointReader reader_;
  Weights weights_;
};

}  // namespace

std::size_t Weights::bytes() const {
  std::size_t total = head->bytes() + embedding.rows * embedding.cols * checkpointBytes(embedding.type);
  for (const LayerWeights& layer : layers) {
    total += layer.qkv->bytes() + layer.output->bytes() + layer.gateUp->bytes() + layer.down->bytes();
  }
  return total;
}

Weights loadWeights(const ModelSpec& spec, std::span<const std::string> files,
                    std::span<const TensorEntry> tensors, Backend& backend, const WeightOptions& options) {
  checkSpec(spec);
  return Loader(spec, files, tensors, backend, options).load();
}

}  // namespace tandem
