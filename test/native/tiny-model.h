#pragma once

// Random tiny decoders on disk, and a decoder in float64 that computes them the plainest way: no cache, no
// batches, the textbook's loops. It shares no code with what it checks.

#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/model-spec.h"
#include "random-tensors.h"

namespace tandem::test {

class TinyModel : public RandomTensors {
 public:
  // How projections are stored.
  enum class Stored { f32, fp8 };

  TinyModel(const ModelSpec& spec, unsigned seed, Stored stored = Stored::f32)
      : RandomTensors(seed), spec_(spec), stored_(stored) {
    const int queries = spec.heads * spec.headDim, keys = spec.kvHeads * spec.headDim;
    add("model.embed_tokens.weight", {spec.vocab, spec.hidden}, 1);
    for (int layer = 0; layer < spec.layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      add(prefix + "input_layernorm.weight", {spec.hidden}, 0.3, 1);
      addProjection(prefix + "self_attn.q_proj", queries, spec.hidden, spec.attentionBias);
      addProjection(prefix + "self_attn.k_proj", keys, spec.hidden, spec.attentionBias);
      addProjection(prefix + "self_attn.v_proj", keys, spec.hidden, spec.attentionBias);
      addProjection(prefix + "self_attn.o_proj", spec.hidden, queries, spec.outputBias);
      if (spec.qkNorm) {
        add(prefix + "self_attn.q_norm.weight", {spec.headDim}, 0.3, 1);
        add(prefix + "self_attn.k_norm.weight", {spec.headDim}, 0.3, 1);
      }
      add(prefix + "post_attention_layernorm.weight", {spec.hidden}, 0.3, 1);
      addProjection(prefix + "mlp.gate_proj", spec.ffn, spec.hidden, spec.mlpBias);
      addProjection(prefix + "mlp.up_proj", spec.ffn, spec.hidden, spec.mlpBias);
      addProjection(prefix + "mlp.down_proj", spec.hidden, spec.ffn, spec.mlpBias);
    }
    add("model.norm.weight", {spec.hidden}, 0.3, 1);
    if (!spec.tiedEmbeddings) add("lm_head.weight", {spec.vocab, spec.hidden}, 0.2);
    close();
  }

  const ModelSpec& spec() const { return spec_; }

  // What the model knows a token by.
  std::vector<float> embeddingOf(int token) const {
    const double* row =
        at("model.embed_tokens.weight").data() + static_cast<std::size_t>(token) * spec_.hidden;
    return {row, row + spec_.hidden};
  }

  // Logits behind the last token.
  std::vector<double> logits(const std::vector<int>& tokens) const {
    std::vector<std::vector<double>> x;
    for (const int token : tokens) {
      const std::vector<float> row = embeddingOf(token);
      x.emplace_back(row.begin(), row.end());
    }
    return logitsOfRows(std::move(x));
  }

  // Behind the last of these rows, each [hidden], in place of tokens' embeddings.
  std::vector<double> logitsOfRows(std::vector<std::vector<double>> x) const {
    const auto count = x.size();
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
      std::vector<std::vector<double>> q, k, v;
      for (std::size_t t = 0; t < count; ++t) {
        const auto normed = norm(x[t], at(prefix + "input_layernorm.weight"));
        q.push_back(heads(attention + "q_", project(attention + "q_proj", normed), spec_.heads, t));
        k.push_back(heads(attention + "k_", project(attention + "k_proj", normed), spec_.kvHeads, t));
        v.push_back(project(attention + "v_proj", normed));
      }
      for (std::size_t t = 0; t < count; ++t) {
        add(x[t], project(attention + "o_proj", attend(layer, q[t], k, v, t)));
        const auto normed = norm(x[t], at(prefix + "post_attention_layernorm.weight"));
        auto gate = project(mlp + "gate_proj", normed);
        const auto up = project(mlp + "up_proj", normed);
        for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
        add(x[t], project(mlp + "down_proj", gate));
      }
    }
    const auto last = norm(x.back(), at("model.norm.weight"));
    return multiply(at(spec_.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"), last);
  }

 private:
  void addProjection(const std::string& name, int outputs, int inputs, bool bias) {
    if (stored_ == Stored::fp8) {
      addFp8(name + ".weight", outputs, inputs);
    } else {
      add(name + ".weight", {outputs, inputs}, 1 / std::sqrt(inputs));
    }
    if (bias) add(name + ".bias", {outputs}, 0.3);
  }

  // Random patterns, and a random scale for each block of 24 rows and 40 columns, which divide no matrix.
  void addFp8(const std::string& name, std::int64_t rows, std::int64_t cols) {
    constexpr std::int64_t kBlockRows = 24, kBlockCols = 40;
    const std::int64_t perRow = (cols + kBlockCols - 1) / kBlockCols,
                       count = (rows + kBlockRows - 1) / kBlockRows * perRow;
    std::vector<float> scales(static_cast<std::size_t>(count));
    for (float& scale : scales) scale = std::uniform_real_distribution<float>(0.3f, 1)(random_) / 64;
    Vector& values = values_[name];
    const auto begin = static_cast<std::uint64_t>(std::ftell(file_));
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const auto magnitude = static_cast<unsigned>(random_() % 0x4c);  // up to 12
      const auto bits = static_cast<std::uint8_t>(magnitude | (random_() % 2 << 7));
      const int exponent = static_cast<int>(magnitude / 8), mantissa = static_cast<int>(magnitude % 8);
      const double value = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
      const float scale =
          scales[static_cast<std::size_t>(i / cols / kBlockRows * perRow + i % cols / kBlockCols)];
      values.push_back((bits & 0x80 ? -value : value) * scale);
      std::fwrite(&bits, 1, 1, file_);
    }
    const auto end = static_cast<std::uint64_t>(std::ftell(file_));
    std::fwrite(scales.data(), sizeof(float), scales.size(), file_);
    tensors_.push_back({name,
                        CheckpointType::e4m3,
                        {rows, cols},
                        0,
                        begin,
                        end,
                        ScaleEntry{CheckpointType::f32, 0, end, end + scales.size() * sizeof(float),
                                   kBlockRows, kBlockCols}});
  }

  const Vector& at(const std::string& name) const { return values_.at(name); }

  Vector project(const std::string& name, const Vector& x) const {
    Vector y = multiply(at(name + ".weight"), x);
    if (const auto bias = values_.find(name + ".bias"); bias != values_.end()) add(y, bias->second);
    return y;
  }

  Vector norm(const Vector& x, const Vector& gain) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.size()) + spec_.normEps);
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * inverse * gain[i];
    return y;
  }

  // Per-head norm where the model has one, then RoPE in the half-split layout.
  Vector heads(const std::string& name, const Vector& all, int count, std::size_t position) const {
    Vector out;
    const int half = spec_.headDim / 2;
    for (int head = 0; head < count; ++head) {
      Vector one(all.begin() + head * spec_.headDim, all.begin() + (head + 1) * spec_.headDim);
      if (spec_.qkNorm) one = norm(one, at(name + "norm.weight"));
      Vector turned(one.size());
      for (int i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * spec_.rope.inverseFrequencies[i];
        const double c = std::cos(angle) * spec_.rope.attentionFactor;
        const double s = std::sin(angle) * spec_.rope.attentionFactor;
        turned[i] = one[i] * c - one[i + half] * s;
        turned[i + half] = one[i + half] * c + one[i] * s;
      }
      out.insert(out.end(), turned.begin(), turned.end());
    }
    return out;
  }

  Vector attend(int layer, const Vector& q, const std::vector<Vector>& k, const std::vector<Vector>& v,
                std::size_t t) const {
    const int d = spec_.headDim, group = spec_.heads / spec_.kvHeads;
    const auto window = static_cast<std::size_t>(spec_.slidingWindow[layer]);
    const std::size_t first = window > 0 && t + 1 > window ? t + 1 - window : 0;
    Vector out(q.size());
    for (int head = 0; head < spec_.heads; ++head) {
      const int kvHead = head / group;
      Vector weights;
      double total = 0;
      for (std::size_t s = first; s <= t; ++s) {
        double score = 0;
        for (int i = 0; i < d; ++i) score += q[head * d + i] * k[s][kvHead * d + i];
        weights.push_back(std::exp(score / std::sqrt(d)));
        total += weights.back();
      }
      for (std::size_t s = first; s <= t; ++s) {
        for (int i = 0; i < d; ++i) out[head * d + i] += weights[s - first] / total * v[s][kvHead * d + i];
      }
    }
    return out;
  }

  ModelSpec spec_;
  Stored stored_;
};

}  // namespace tandem::test
