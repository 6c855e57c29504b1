#pragma once

#include <atomic>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/thread-team.h"
#include "cpu/aligned-array.h"
#include "cpu/isa.h"
#include "cpu/matmul/matmul.h"
#include "vision/attention.h"
#include "vision/gelu.h"
#include "vision/spec.h"
#include "vision/weights.h"

namespace tandem::vision {

struct EncoderOptions {
  Spec spec;
  std::vector<std::string> files;
  std::vector<TensorEntry> tensors;
  std::optional<Isa> isa;  // absent: the best
  bool checkFinite = false;
  int threads = 1;  // of EncoderThreads
};

// Makes rows of a decoder's embeddings of a tile: SigLIP's tower (Zhai et al. 2023) over its patches, all of
// which see each other, and Idefics3's connector (Laurençon et al. 2024, section 3.1). Tiles are whole
// squares of imageSize pixels without padding, so positions count from 0 and nothing is masked.
//
// Activations are float32, and bf16 where the matmuls take them. A tile's rows depend on its pixels alone.
class Encoder {
 public:
  // Loads the weights; takes as long as that takes.
  explicit Encoder(const EncoderOptions& options);

  const Spec& spec() const { return spec_; }
  std::size_t weightBytes() const { return weights_.bytes(); }

  // The activations of a thread that encodes.
  class Workspace {
   public:
    explicit Workspace(const Encoder& encoder);

   private:
    friend class Encoder;
    ThreadTeam team_{1};  // the thread itself
    cpu::Workspace matmul_;
    Attention attention_;
    Gelu gelu_;
    cpu::AlignedArray<float> hidden_, normed_, wide_;
  };

  // pixels [channels, imageSize, imageSize], rows [tokensPerTile(), decoderHidden]. False, with no rows,
  // where `stop` became true before a layer.
  bool encode(std::span<const float> pixels, Workspace& work, std::span<float> rows,
              const std::atomic<bool>& stop) const;

 private:
  void embed(std::span<const float> pixels, Workspace& work, Tensor x) const;
  void runLayer(const LayerWeights& weights, Workspace& work, Tensor x) const;
  void norm(Tensor x, const NormWeights& weights, Tensor out) const;

  const Spec spec_;
  const Isa isa_;
  const Weights weights_;
};

}  // namespace tandem::vision
