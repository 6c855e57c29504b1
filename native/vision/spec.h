#pragma once

#include <cstdint>

namespace tandem::vision {

// The tower's and the connector's description; the fields are those of VisionSpec in
// engine/model/model-spec.ts.
struct Spec {
  int imageSize = 0;  // pixels of a tile's side
  int patchSize = 0;
  int patchesPerSide = 0;
  int hidden = 0;
  int layers = 0;
  int heads = 0;
  int ffn = 0;
  float normEps = 1e-6f;
  int scaleFactor = 1;
  int decoderHidden = 0;  // width of the rows that are made

  static constexpr int channels = 3;

  std::int64_t patches() const { return std::int64_t{patchesPerSide} * patchesPerSide; }
  std::int64_t patchValues() const { return std::int64_t{channels} * patchSize * patchSize; }
  std::int64_t tileValues() const { return std::int64_t{channels} * imageSize * imageSize; }
  std::int64_t tokensPerTile() const { return patches() / (std::int64_t{scaleFactor} * scaleFactor); }
  std::int64_t shuffledWidth() const { return std::int64_t{hidden} * scaleFactor * scaleFactor; }
};

// Throws Error naming the field if a dimension is not one that the encoder can take.
void checkSpec(const Spec& spec);

}  // namespace tandem::vision
