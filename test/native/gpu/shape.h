#pragma once

namespace tandem::gpu {

// The decoder that the measurements are of: Llama-3.1-8B's shape with fewer layers, which changes a step's
// time in proportion. On the host, where kernels are emulated, one that a test can afford.
struct Shape {
  int layers, hidden, heads, kvHeads, headDim, ffn, vocab;

  int qkvWidth() const { return (heads + 2 * kvHeads) * headDim; }
};

#ifdef TANDEM_CUDA_EMULATION
inline constexpr bool kTiny = true;
inline constexpr Shape kShape{1, 64, 2, 1, 32, 64, 96};
#else
inline constexpr bool kTiny = false;
inline constexpr Shape kShape{4, 4096, 32, 8, 128, 14336, 128256};
#endif

}  // namespace tandem::gpu
