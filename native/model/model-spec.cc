#include "model/model-spec.h"

#include "core/error.h"

namespace tandem {
namespace {

// Generous beyond any model, small enough that no product of two overflows.
constexpr int kLargest = 1 << 24;

void checkRange(const char* name, int value, int largest = kLargest) {
  if (value >= 1 && value <= largest) return;
  throw Error(std::string("the model's ") + name + " is " + std::to_string(value) + ", expected 1 to " +
              std::to_string(largest));
}

}  // namespace

void checkSpec(const ModelSpec& spec) {
  checkRange("layers", spec.layers, 1024);
  checkRange("hidden", spec.hidden);
  checkRange("heads", spec.heads, 4096);
  checkRange("kvHeads", spec.kvHeads, 4096);
  checkRange("headDim", spec.headDim, 256);
  checkRange("ffn", spec.ffn);
  checkRange("vocab", spec.vocab);
  check(spec.heads % spec.kvHeads == 0, "the model's heads are not a multiple of its kvHeads");
  check(spec.headDim % 16 == 0, "the model's headDim is not a multiple of 16");
  check(spec.rope.inverseFrequencies.size() == static_cast<std::size_t>(spec.headDim / 2),
        "the model's RoPE needs headDim / 2 inverse frequencies");
  check(spec.slidingWindow.size() == static_cast<std::size_t>(spec.layers),
        "the model's slidingWindow needs one value a layer");
}

}  // namespace tandem
