#pragma once

#include <span>

#include "vision/spec.h"

namespace tandem::vision {

// The pixels of each patch in a row, as a convolution's kernel has them, so that it becomes a matmul. pixels
// [channels, imageSize, imageSize], out [patches, patchValues()].
void gatherPatches(const Spec& spec, std::span<const float> pixels, float* out);

// Each square of scaleFactor x scaleFactor patches in a row: those of its first line, then of the next (the
// "pixel shuffle" of Idefics3). x [patches, hidden], out [tokensPerTile(), shuffledWidth()].
void shuffle(const Spec& spec, std::span<const float> x, float* out);

}  // namespace tandem::vision
