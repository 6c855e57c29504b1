#include "vision/spec.h"

#include <string>

#include "core/error.h"

namespace tandem::vision {
namespace {

// Generous beyond any tower, small enough that no product of two overflows.
void checkRange(const char* name, int value, int largest) {
  if (value >= 1 && value <= largest) return;
  throw Error(std::string("the vision tower's ") + name + " is " + std::to_string(value) +
              ", expected 1 to " + std::to_string(largest));
}

}  // namespace

void checkSpec(const Spec& spec) {
  checkRange("imageSize", spec.imageSize, 1 << 14);
  checkRange("patchSize", spec.patchSize, 1 << 10);
  checkRange("patchesPerSide", spec.patchesPerSide, 1 << 10);
  checkRange("hidden", spec.hidden, 1 << 16);
  checkRange("layers", spec.layers, 1024);
  checkRange("heads", spec.heads, 1024);
  checkRange("ffn", spec.ffn, 1 << 18);
  checkRange("scaleFactor", spec.scaleFactor, 64);
  checkRange("decoderHidden", spec.decoderHidden, 1 << 24);
  check(spec.hidden % spec.heads == 0, "the vision tower's hidden is not a multiple of its heads");
  check(spec.patchesPerSide == spec.imageSize / spec.patchSize,
        "the vision tower's patchesPerSide is not that of its imageSize and patchSize");
  check(spec.patchesPerSide % spec.scaleFactor == 0,
        "the vision tower's patchesPerSide is not a multiple of its scaleFactor");
}

}  // namespace tandem::vision
