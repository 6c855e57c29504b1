#include "model/weights.h"

#include <cmath>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/half.h"

namespace tandem {
namespace {

std::string shapeText(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

class Loader {
 public:
  Loader(const ModelSpec& spec, std::span<const std::string> files, std::span<const TensorEntry> tensors,
         Backend& backend, const WeightOptions& options)
      : spec_(spec), backend_(backend), options_(options) {
    for (const std::string& path : files) weights_.files.emplace_back(path);
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

  Weights load() {
    weights_.embedding = matrix("model.embed_tokens.weight", spec_.vocab, spec_.hidden);
    for (int layer = 0; layer < spec_.layers; ++layer) weights_.layers.push_back(loadLayer(layer));
    weights_.finalNorm = vector("model.norm.weight", spec_.hidden);
    const CheckpointMatrix head =
        spec_.tiedEmbeddings ? weights_.embedding : matrix("lm_head.weight", spec_.vocab, spec_.hidden);
    weights_.head = pack({&head, 1}, WeightLayout::stacked);
    keepValues();
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
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
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

  void checkPlace(const std::string& name, int place, std::uint64_t begin, std::uint64_t end) const {
    if (place < 0 || place >= static_cast<int>(weights_.files.size())) {
      throw Error("tensor " + name + " lies in file " + std::to_string(place) + ", which is not there");
    }
    const MappedFile& file = weights_.files[place];
    if (begin > end || end > file.bytes().size()) {
      throw Error(file.path() + ": tensor " + name + " ends at byte " + std::to_string(end) +
                  " of a file of " + std::to_string(file.bytes().size()) + " bytes; is the file truncated?");
    }
  }

  const TensorEntry& find(const std::string& name, std::span<const std::int64_t> shape) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      throw Error("the checkpoint has no tensor " + name + ", expected shape " + shapeText(shape));
    }
    const TensorEntry& tensor = *found->second;
    const std::string& path = weights_.files[tensor.file].path();
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

  CheckpointMatrix matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const std::int64_t shape[] = {rows, cols};
    return read(find(name, shape), rows, cols);
  }

  std::vector<float> vector(const std::string& name, std::int64_t size) {
    const std::int64_t shape[] = {size};
    const CheckpointMatrix row = read(find(name, shape), 1, size);
    std::vector<float> values(size);
    readCheckpointRow(row, 0, values);
    return values;
  }

  CheckpointMatrix read(const TensorEntry& tensor, std::int64_t rows, std::int64_t cols) {
    const MappedFile& file = weights_.files[tensor.file];
    CheckpointMatrix matrix{file.bytes().data() + tensor.begin, tensor.type, rows, cols};
    if (tensor.type == CheckpointType::e4m3) matrix.scales = readScales(tensor, rows, cols);
    if (options_.checkFinite) checkFinite(file.path(), tensor.name, matrix);
    pending_ += tensor.end - tensor.begin;
    return matrix;
  }

  // They stay where they are until the weights are loaded.
  CheckpointScales readScales(const TensorEntry& tensor, std::int64_t rows, std::int64_t cols) {
    if (!tensor.scales) throw Error("tensor " + tensor.name + " is in fp8 and has no scales");
    const ScaleEntry& entry = *tensor.scales;
    const std::string& path = weights_.files[entry.file].path();
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
    std::vector<float>& values = weights_.scales.emplace_back(count);
    readCheckpointRow({weights_.files[entry.file].bytes().data() + entry.begin, entry.type, 1, count}, 0,
                      values);
    return {values.data(), entry.blockRows, entry.blockCols};
  }

  static void checkFinite(const std::string& path, const std::string& name, const CheckpointMatrix& matrix) {
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

  std::unique_ptr<Weight> pack(std::span<const CheckpointMatrix> parts, WeightLayout layout) {
    auto weight = backend_.packWeight(parts, layout, options_.weightClass);
    done_ += std::exchange(pending_, 0);
    if (options_.onProgress) options_.onProgress(std::min(done_, total_), total_);
    return weight;
  }

  const ModelSpec& spec_;
  Backend& backend_;
  const WeightOptions& options_;
  Weights weights_;
  std::unordered_map<std::string, const TensorEntry*> tensors_;
  std::uint64_t total_ = 0, done_ = 0, pending_ = 0;
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
