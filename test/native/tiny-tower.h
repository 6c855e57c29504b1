#pragma once

// Random tiny vision towers on disk, and one in float64 that computes them the plainest way: the convolution
// as a convolution, attention row by row, the textbook's loops. It shares no code with what it checks.

#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "random-tensors.h"
#include "vision/encoder.h"

namespace tandem::test {

class TinyTower : public RandomTensors {
 public:
  TinyTower(const vision::Spec& spec, unsigned seed) : RandomTensors(seed), spec_(spec) {
    const std::string embeddings = "model.vision_model.embeddings.";
    add(embeddings + "patch_embedding.weight", {spec.hidden, 3, spec.patchSize, spec.patchSize}, 0.15);
    add(embeddings + "patch_embedding.bias", {spec.hidden}, 0.3);
    add(embeddings + "position_embedding.weight", {spec.patches(), spec.hidden}, 0.5);
    for (int layer = 0; layer < spec.layers; ++layer) {
      const std::string at = "model.vision_model.encoder.layers." + std::to_string(layer) + ".";
      addNorm(at + "layer_norm1");
      addNorm(at + "layer_norm2");
      for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
        addLinear(at + "self_attn." + name, spec.hidden, spec.hidden);
      }
      addLinear(at + "mlp.fc1", spec.ffn, spec.hidden);
      addLinear(at + "mlp.fc2", spec.hidden, spec.ffn);
    }
    addNorm("model.vision_model.post_layernorm");
    add("model.connector.modality_projection.proj.weight", {spec.decoderHidden, spec.shuffledWidth()},
        1 / std::sqrt(spec.shuffledWidth()));
    close();
  }

  vision::EncoderOptions options() const {
    vision::EncoderOptions options;
    options.spec = spec_;
    options.files = {path()};
    options.tensors = tensors();
    return options;
  }

  std::vector<float> tile(unsigned seed) const {
    std::mt19937 random(seed);
    std::vector<float> pixels(static_cast<std::size_t>(spec_.tileValues()));
    for (float& pixel : pixels) pixel = std::uniform_real_distribution<float>(-1, 1)(random);
    return pixels;
  }

  // [tokensPerTile, decoderHidden] of pixels [3, imageSize, imageSize]
  std::vector<double> encode(const std::vector<float>& pixels) const {
    std::vector<Vector> x = patches(pixels);
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const std::string at = "model.vision_model.encoder.layers." + std::to_string(layer) + ".";
      std::vector<Vector> q, k, v;
      for (const Vector& row : x) {
        const Vector normed = norm(at + "layer_norm1", row);
        q.push_back(linear(at + "self_attn.q_proj", normed));
        k.push_back(linear(at + "self_attn.k_proj", normed));
        v.push_back(linear(at + "self_attn.v_proj", normed));
      }
      for (std::size_t row = 0; row < x.size(); ++row) {
        add(x[row], linear(at + "self_attn.out_proj", attend(q[row], k, v)));
        Vector inner = linear(at + "mlp.fc1", norm(at + "layer_norm2", x[row]));
        for (double& value : inner) {
          const double u = std::sqrt(2 / 3.14159265358979323846) * (value + 0.044715 * value * value * value);
          value = value * (1 + std::tanh(u)) / 2;
        }
        add(x[row], linear(at + "mlp.fc2", inner));
      }
    }
    for (Vector& row : x) row = norm("model.vision_model.post_layernorm", row);
    return connect(x);
  }

 private:
  void addNorm(const std::string& name) {
    add(name + ".weight", {spec_.hidden}, 0.3, 1);
    add(name + ".bias", {spec_.hidden}, 0.3);
  }

  void addLinear(const std::string& name, std::int64_t outputs, std::int64_t inputs) {
    add(name + ".weight", {outputs, inputs}, 1 / std::sqrt(inputs));
    add(name + ".bias", {outputs}, 0.3);
  }

  Vector linear(const std::string& name, const Vector& x) const {
    Vector y = multiply(values_.at(name + ".weight"), x);
    add(y, values_.at(name + ".bias"));
    return y;
  }

  Vector norm(const std::string& name, const Vector& x) const {
    double mean = 0, variance = 0;
    for (const double value : x) mean += value / static_cast<double>(x.size());
    for (const double value : x) variance += std::pow(value - mean, 2) / static_cast<double>(x.size());
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      y[i] = (x[i] - mean) / std::sqrt(variance + spec_.normEps) * values_.at(name + ".weight")[i] +
             values_.at(name + ".bias")[i];
    }
    return y;
  }

  // A convolution whose steps are as wide as its kernel, then the places.
  std::vector<Vector> patches(const std::vector<float>& pixels) const {
    const Vector& kernel = values_.at("model.vision_model.embeddings.patch_embedding.weight");
    const Vector& bias = values_.at("model.vision_model.embeddings.patch_embedding.bias");
    const Vector& places = values_.at("model.vision_model.embeddings.position_embedding.weight");
    const int side = spec_.patchesPerSide, size = spec_.patchSize;
    std::vector<Vector> x;
    for (int patch = 0; patch < side * side; ++patch) {
      Vector row(static_cast<std::size_t>(spec_.hidden));
      for (int out = 0; out < spec_.hidden; ++out) {
        double sum = bias[out] + places[patch * spec_.hidden + out];
        for (int channel = 0; channel < 3; ++channel) {
          for (int i = 0; i < size; ++i) {
            for (int j = 0; j < size; ++j) {
              const int y = patch / side * size + i, xAt = patch % side * size + j;
              sum += kernel[((out * 3 + channel) * size + i) * size + j] *
                     pixels[(channel * spec_.imageSize + y) * spec_.imageSize + xAt];
            }
          }
        }
        row[out] = sum;
      }
      x.push_back(std::move(row));
    }
    return x;
  }

  Vector attend(const Vector& q, const std::vector<Vector>& k, const std::vector<Vector>& v) const {
    const int d = spec_.hidden / spec_.heads;
    Vector out(q.size());
    for (int head = 0; head < spec_.heads; ++head) {
      Vector weights;
      double total = 0;
      for (const Vector& key : k) {
        double score = 0;
        for (int i = 0; i < d; ++i) score += q[head * d + i] * key[head * d + i];
        weights.push_back(std::exp(score / std::sqrt(d)));
        total += weights.back();
      }
      for (std::size_t s = 0; s < v.size(); ++s) {
        for (int i = 0; i < d; ++i) out[head * d + i] += weights[s] / total * v[s][head * d + i];
      }
    }
    return out;
  }

  // Idefics3's pixel shuffle, one view and permutation after the other as its authors wrote it, then the
  // projection. `at` is the flat index behind each.
  std::vector<double> connect(const std::vector<Vector>& x) const {
    const int s = spec_.scaleFactor, side = spec_.patchesPerSide, width = spec_.hidden;
    Vector flat;
    for (const Vector& row : x) flat.insert(flat.end(), row.begin(), row.end());
    // [side, side / s, width * s] -> [side / s, side, width * s]
    const int w1 = side / s, e1 = width * s;
    Vector first(flat.size());
    for (int h = 0; h < side; ++h) {
      for (int w = 0; w < w1; ++w) {
        for (int e = 0; e < e1; ++e) first[(w * side + h) * e1 + e] = flat[(h * w1 + w) * e1 + e];
      }
    }
    // seen as [side / s, side / s, width * s * s], and turned back
    const int h2 = side / s, e2 = width * s * s;
    Vector second(flat.size());
    for (int w = 0; w < w1; ++w) {
      for (int h = 0; h < h2; ++h) {
        for (int e = 0; e < e2; ++e) second[(h * w1 + w) * e2 + e] = first[(w * h2 + h) * e2 + e];
      }
    }
    std::vector<double> rows;
    for (int token = 0; token < h2 * w1; ++token) {
      const Vector joined(second.begin() + token * e2, second.begin() + (token + 1) * e2);
      const Vector row = multiply(values_.at("model.connector.modality_projection.proj.weight"), joined);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    return rows;
  }

  vision::Spec spec_;
};

}  // namespace tandem::test
