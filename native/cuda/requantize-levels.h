#pragma once

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda::requantization {

// See these in native/cpu/requantize/kernels.inl.
template <int kBits>
constexpr float kCovered = kBits == 2 ? 0.8f : 1.0f;
inline constexpr int kFitRounds = 3;
inline constexpr int kFine = 1024;

// A group's step and middle, of the lowest and the highest of its elements.
template <int kBits>
struct Group {
  static constexpr float kTop = (1 << kBits) - 1;

  bf16 step = kNan, middle = kNan;
  float inverse = 0, center = 0;
  bool whole = false;  // all elements are finite

  __device__ Group(float low, float high, bool whole) : whole(whole) {
    if (!whole) return;
    middle = roundToBf16(__fadd_rn(__fmul_rn(low, 0.5f), __fmul_rn(high, 0.5f)));
    center = lowFloat(middle);
    const float above = __fsub_rn(high, center), below = __fsub_rn(center, low);
    const float reach = below > above ? below : above;
    step = roundToBf16(__fmul_rn(reach, 2 * kCovered<kBits> / kTop));
    inverse = inverted(lowFloat(step));
  }

  // fitLevels of the CPU, of `all` values, of which a lane has the first `held` of `values`. sumOf(x): the
  // sum over the lanes that share them.
  template <int kMost, class SumOf>
  __device__ void fit(const float (&values)[kMost], int held, int all, const SumOf& sumOf) {
    if (!whole) return;
    int fine[kMost];
    unsigned sum = 0;
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i >= held) continue;
      const float place = placeOf(values[i]);
      const float inside = place > -1 ? (place < kTop + 1 ? place : kTop + 1) : -1.0f;
      fine[i] = static_cast<int>(__fadd_rn(__fmul_rn(__fadd_rn(inside, 1.0f), kFine), 0.5f));
      sum += static_cast<unsigned>(fine[i]);
    }
    const auto parts = static_cast<int>(sumOf(sum));
    float begin = 0, width = 1;
    for (int round = 0; round < kFitRounds; ++round) {
      int borders[3];
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float border = __fadd_rn(begin, __fmul_rn(width, static_cast<float>(i) + 0.5f));
        borders[i] = static_cast<int>(__fadd_rn(__fmul_rn(__fadd_rn(border, 1.0f), kFine), 0.5f));
      }
      unsigned both = 0, product = 0;  // both: sums of codes, and above 16 bits of their squares
#pragma unroll
      for (int i = 0; i < kMost; ++i) {
        if (i >= held) continue;
        const unsigned code = (fine[i] >= borders[0]) + (fine[i] >= borders[1]) + (fine[i] >= borders[2]);
        both += code | code * code << 16;
        product += code * static_cast<unsigned>(fine[i]);
      }
      both = sumOf(both);
      const auto products = static_cast<int>(sumOf(product));
      const int codes = static_cast<int>(both & 0xffffu), squares = static_cast<int>(both >> 16);
      const int spread = all * squares - codes * codes;
      if (spread == 0) continue;
      const int common = all * products - codes * parts;
      width = __fmul_rn(__fdiv_rn(static_cast<float>(common), static_cast<float>(spread)), 1.0f / kFine);
      const float lowest = __fsub_rn(__fmul_rn(static_cast<float>(parts), 1.0f / kFine),
                                     __fmul_rn(width, static_cast<float>(codes)));
      begin = __fsub_rn(__fdiv_rn(lowest, static_cast<float>(all)), 1.0f);
    }
    const float moved = __fsub_rn(__fadd_rn(begin, __fmul_rn(width, kTop / 2)), kTop / 2);
    const float first = lowFloat(step);
    middle = roundToBf16(__fadd_rn(center, __fmul_rn(first, moved)));
    center = lowFloat(middle);
    step = roundToBf16(__fmul_rn(first, width));
    inverse = inverted(lowFloat(step));
  }

  __device__ float placeOf(float value) const {
    return __fadd_rn(__fmul_rn(__fsub_rn(value, center), inverse), kTop / 2);
  }
  __device__ std::uint32_t codeOf(float value) const {
    if (!whole) return 0;
    const float place = placeOf(value);
    const float inside = place > 0 ? (place < kTop ? place : kTop) : 0.0f;
    return static_cast<std::uint32_t>(static_cast<std::int32_t>(inside + 0.5f));
  }
};

}  // namespace tandem::cuda::requantization
