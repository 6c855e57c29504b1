#pragma once

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/requantize-reach.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda::requantization {

// See these in native/cpu/requantize/kernels.inl.
template <int kBits>
constexpr float kCovered = kBits == 2 ? 0.8f : 1.0f;
inline constexpr int kFitRounds = 3;
inline constexpr int kFine = 1024;

// 2^23: floats from here on are whole numbers, so that a sum that is cut off, not rounded, has a small
// number's whole part in its last bits.
inline constexpr float kWholes = 8388608.0f;
inline constexpr std::uint32_t kWholesBits = 0x4b000000u;

// value / count: of a power of two, which most counts are, by its inverse.
__device__ inline float dividedBy(int count, float value) {
  const auto by = static_cast<float>(count);
  return (count & (count - 1)) == 0 ? __fmul_rn(value, __frcp_rn(by)) : __fdiv_rn(value, by);
}

// What it takes to make a group's elements codes.
struct Scaling {
  float center, inverse;

  __device__ float stepsFromCenter(float value) const { return __fmul_rn(__fsub_rn(value, center), inverse); }

  // The code of a value, behind kWholesBits; 0 if the place is not a number. The processor's code is
  //
  //   floor(min(max(steps + top / 2, 0), top) + 1 / 2),  top = 2^kBits - 1
  //
  // and so is floor(min(max(steps + 2^kBits / 2, 0), top)), as rounding nowhere carries one of the two sums
  // over a whole number and not the other. Counted in 2^kBits the lower bound and one above the highest code
  // are those of a saturated sum. No value is so far above: a group's highest is at most top / 2 * (1 + 2^-8)
  // steps from its center, unless its levels have been fitted, in int2.
  template <int kBits>
  __device__ std::uint32_t codeOf(float value) const {
    constexpr float kLevels = 1 << kBits, kBelowOne = 0x1.fffffep-1f;
    float place = __saturatef(__fmaf_rn(stepsFromCenter(value), 1 / kLevels, 0.5f));
    if constexpr (kBits == 2) place = fminf(place, kBelowOne);
    return __float_as_uint(__fmaf_rz(place, kLevels, kWholes));
  }
};

// A group's step and middle.
template <int kBits>
struct Group {
  static constexpr float kTop = (1 << kBits) - 1;

  bf16 step = kNan, middle = kNan;
  Scaling scaling{lowFloat(kNan), 0};
  bool whole = false;  // all elements are finite

  __device__ explicit Group(Reach reach) : whole(isFinite(reach.low) && isFinite(reach.high)) {
    if (!whole) return;
    const float between = __fadd_rn(__fmul_rn(reach.low, 0.5f), __fmul_rn(reach.high, 0.5f));
    const float center = lowFloat(roundToBf16(__fadd_rn(between, 0.0f)));  // the sum has no negative zero
    const float above = __fsub_rn(reach.high, center), below = __fsub_rn(center, reach.low);
    set(center, __fmul_rn(below > above ? below : above, 2 * kCovered<kBits> / kTop));
  }

  // Numbers that are added up in float32 as they are: 16 products of a code and a fine part are less than
  // kCodeUnit, and 16 codes of kCodeUnit each and those products less than 2^24.
  static constexpr int kAdded = 16, kCodeUnit = 1 << 18;

  // A value in fine parts of a step from one below the lowest level on, as the processor rounds them, and
  // kCodeUnit more, which is one code more where codes are added up. Not a number comes out as 0 parts.
  __device__ float fineOf(float value) const {
    constexpr float kHalf = 0.5f / kFine, kEights = 8;  // of a step; more than any value lies above
    const float place = __fadd_rn(scaling.stepsFromCenter(value), kTop / 2);
    const float inside = __saturatef(__fmaf_rn(place, 1 / kEights, (1 + kHalf) / kEights));
    return __fsub_rn(__fmaf_rz(inside, kEights * kFine, kWholes), kWholes - kCodeUnit);
  }

  // fitLevels of the CPU, of `all` values, of which a lane has the first `held` of `fine`; the others are 0.
  // sumOf(x): the sum over the lanes that share them. All lanes of a warp together.
  template <int kHeld, class SumOf>
  __device__ void fit(const float (&fine)[kHeld], int held, int all, const SumOf& sumOf) {
    static_assert(kHeld % kAdded == 0);
    unsigned mine = 0;
#pragma unroll
    for (int first = 0; first < kHeld; first += kAdded) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kAdded; ++i) sum = __fadd_rn(sum, fine[first + i]);
      mine += static_cast<unsigned>(sum);
    }
    const auto parts = static_cast<int>(sumOf(mine - static_cast<unsigned>(held) * kCodeUnit));
    float begin = 0, width = 1;
#pragma unroll 1
    for (int round = 0; round < kFitRounds; ++round) {
      float below[3];  // a border less one part, negated: a sum of it and a value is 1 or more from the
                       // border on
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float border = __fadd_rn(begin, __fmul_rn(width, static_cast<float>(i) + 0.5f));
        const float place = __fmaf_rn(__fadd_rn(border, 1.0f), kFine, 0.5f);
        below[i] = __fsub_rn(kWholes - kCodeUnit + 1, __fadd_rz(fmaxf(place, 0.0f), kWholes));
      }
      unsigned product = 0, codesOfLane = 0;
      float squared = 0;
#pragma unroll
      for (int first = 0; first < kHeld; first += kAdded) {
        float sum = 0;  // of products, and from kCodeUnit on of codes
#pragma unroll
        for (int i = 0; i < kAdded; ++i) {
          const float x = fine[first + i];
          const float code =
              __fadd_rn(__fadd_rn(__saturatef(__fadd_rn(x, below[0])), __saturatef(__fadd_rn(x, below[1]))),
                        __saturatef(__fadd_rn(x, below[2])));
          sum = __fmaf_rn(code, x, sum);
          squared = __fmaf_rn(code, code, squared);
        }
        const auto both = static_cast<unsigned>(sum);
        product += both % kCodeUnit, codesOfLane += both / kCodeUnit;
      }
      const unsigned both = sumOf(codesOfLane | static_cast<unsigned>(squared) << 16);
      const auto products = static_cast<int>(sumOf(product));
      const int codes = static_cast<int>(both & 0xffffu), squares = static_cast<int>(both >> 16);
      const int spread = all * squares - codes * codes;
      if (spread == 0) continue;
      const int common = all * products - codes * parts;
      width = __fmul_rn(__fdiv_rn(static_cast<float>(common), static_cast<float>(spread)), 1.0f / kFine);
      const float lowest = __fsub_rn(__fmul_rn(static_cast<float>(parts), 1.0f / kFine),
                                     __fmul_rn(width, static_cast<float>(codes)));
      begin = __fsub_rn(dividedBy(all, lowest), 1.0f);
    }
    if (!whole) return;
    const float moved = __fsub_rn(__fadd_rn(begin, __fmul_rn(width, kTop / 2)), kTop / 2);
    const float first = lowFloat(step);
    set(__fadd_rn(scaling.center, __fmul_rn(first, moved)), __fmul_rn(first, width));
  }

 private:
  __device__ void set(float newMiddle, float newStep) {
    middle = roundToBf16(newMiddle), step = roundToBf16(newStep);
    scaling = {lowFloat(middle), inverted(lowFloat(step))};
  }
};

}  // namespace tandem::cuda::requantization
