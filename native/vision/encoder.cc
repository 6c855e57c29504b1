#include "vision/encoder.h"

#include <algorithm>

#include "core/error.h"
#include "vision/layer-norm.h"
#include "vision/patches.h"

namespace tandem::vision {
namespace {

std::span<float> rowOf(Tensor x, std::int64_t row) {
  return {x.floats() + row * x.cols, static_cast<std::size_t>(x.cols)};
}

}  // namespace

Encoder::Encoder(const EncoderOptions& options)
    : spec_(options.spec),
      isa_(parseIsa(isaName(options.isa.value_or(availableIsas().front())))),
      weights_(loadWeights(spec_, options.files, options.tensors, options.checkFinite)) {}

Encoder::Workspace::Workspace(const Encoder& encoder)
    : attention_(encoder.isa_, team_, matmul_), gelu_(encoder.isa_) {
  const Spec& spec = encoder.spec_;
  hidden_.reserve(static_cast<std::size_t>(spec.patches() * spec.hidden));
  normed_.reserve(static_cast<std::size_t>(spec.patches() * spec.hidden));
  const std::int64_t width = std::max<std::int64_t>({spec.patchValues(), 3 * spec.hidden, spec.ffn});
  wide_.reserve(static_cast<std::size_t>(spec.patches() * width));
}

bool Encoder::encode(std::span<const float> pixels, Workspace& work, std::span<float> rows,
                     const std::atomic<bool>& stop) const {
  check(static_cast<std::int64_t>(pixels.size()) == spec_.tileValues() &&
            static_cast<std::int64_t>(rows.size()) == spec_.tokensPerTile() * spec_.decoderHidden,
        "a tile and its rows must be as large as the tower's description says");
  const Tensor x{work.hidden_.data(), spec_.patches(), spec_.hidden};
  const Tensor normed{work.normed_.data(), x.rows, x.cols};
  embed(pixels, work, x);
  for (const LayerWeights& layer : weights_.layers) {
    if (stop.load(std::memory_order_relaxed)) return false;
    runLayer(layer, work, x);
  }
  norm(x, weights_.finalNorm, normed);
  const Tensor shuffled{work.hidden_.data(), spec_.tokensPerTile(), spec_.shuffledWidth()};
  shuffle(spec_, {normed.floats(), static_cast<std::size_t>(normed.rows * normed.cols)}, shuffled.floats());
  const Tensor out{rows.data(), shuffled.rows, spec_.decoderHidden};
  cpu::linear(isa_, work.team_, work.matmul_, shuffled, *weights_.connector.matrix, {}, out);
  return true;
}

void Encoder::embed(std::span<const float> pixels, Workspace& work, Tensor x) const {
  const Tensor patches{work.wide_.data(), x.rows, spec_.patchValues()};
  gatherPatches(spec_, pixels, patches.floats());
  std::ranges::copy(weights_.positions, x.floats());
  cpu::linearAdd(isa_, work.team_, work.matmul_, patches, *weights_.patches.matrix, weights_.patches.bias, x);
}

void Encoder::runLayer(const LayerWeights& weights, Workspace& work, Tensor x) const {
  const Tensor normed{work.normed_.data(), x.rows, x.cols};
  const Tensor qkv{work.wide_.data(), x.rows, 3 * x.cols};
  const Tensor inner{work.wide_.data(), x.rows, spec_.ffn};
  norm(x, weights.attentionNorm, normed);
  cpu::linear(isa_, work.team_, work.matmul_, normed, *weights.qkv.matrix, weights.qkv.bias, qkv);
  work.attention_.run(qkv, spec_.heads, normed);
  cpu::linearAdd(isa_, work.team_, work.matmul_, normed, *weights.output.matrix, weights.output.bias, x);
  norm(x, weights.ffnNorm, normed);
  cpu::linear(isa_, work.team_, work.matmul_, normed, *weights.up.matrix, weights.up.bias, inner);
  for (std::int64_t row = 0; row < inner.rows; ++row) work.gelu_.run(rowOf(inner, row));
  cpu::linearAdd(isa_, work.team_, work.matmul_, inner, *weights.down.matrix, weights.down.bias, x);
}

void Encoder::norm(Tensor x, const NormWeights& weights, Tensor out) const {
  for (std::int64_t row = 0; row < x.rows; ++row) {
    layerNormRow(rowOf(x, row), weights.gain, weights.bias, spec_.normEps, rowOf(out, row).data());
  }
}

}  // namespace tandem::vision
