#include "vision/patches.h"

#include <algorithm>
#include <cstdint>

namespace tandem::vision {

void gatherPatches(const Spec& spec, std::span<const float> pixels, float* out) {
  const std::int64_t side = spec.imageSize, size = spec.patchSize;
  for (std::int64_t row = 0; row < spec.patchesPerSide; ++row) {
    for (std::int64_t col = 0; col < spec.patchesPerSide; ++col) {
      for (std::int64_t channel = 0; channel < Spec::channels; ++channel) {
        for (std::int64_t y = 0; y < size; ++y, out += size) {
          const float* line = pixels.data() + (channel * side + row * size + y) * side + col * size;
          std::copy(line, line + size, out);
        }
      }
    }
  }
}

void shuffle(const Spec& spec, std::span<const float> x, float* out) {
  const std::int64_t scale = spec.scaleFactor, squares = spec.patchesPerSide / scale;
  const std::int64_t line = scale * spec.hidden;
  for (std::int64_t row = 0; row < squares; ++row) {
    for (std::int64_t col = 0; col < squares; ++col) {
      for (std::int64_t y = 0; y < scale; ++y, out += line) {
        const std::int64_t patch = (row * scale + y) * spec.patchesPerSide + col * scale;
        const float* from = x.data() + patch * spec.hidden;
        std::copy(from, from + line, out);
      }
    }
  }
}

}  // namespace tandem::vision
