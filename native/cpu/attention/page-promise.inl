// A plain loop that the compiler turns into vectors of the including file's instruction set; in an unnamed
// namespace, and without anything inline from elsewhere, so that no code for one processor is linked into
// another's.

#include "cpu/attention/kernels.h"

namespace tandem::cpu {
namespace {

constexpr int kPromiseLanes = 8;  // half of headDim is a multiple of it

float widenedScale(bf16 bits) { return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16); }

float magnitudeOf(float x) { return x < 0 ? -x : x; }

float promiseOfPage(const PagePromise& promise) {
  const int half = promise.headDim / 2;
  float sums[kPromiseLanes] = {};
  for (int first = 0; first < half; first += kPromiseLanes) {
    for (int lane = 0; lane < kPromiseLanes; ++lane) {
      const int i = first + lane;
      const float a = promise.q[i], b = promise.q[half + i];
      const float cosine = promise.cosines[i], sine = promise.sines[i];
      const float low = a * cosine - b * sine, high = b * cosine + a * sine;
      const float lowReach = promise.reach * widenedScale(promise.steps[i]);
      const float highReach = promise.reach * widenedScale(promise.steps[half + i]);
      sums[lane] += low * widenedScale(promise.middles[i]) + magnitudeOf(low) * lowReach +
                    high * widenedScale(promise.middles[half + i]) + magnitudeOf(high) * highReach;
    }
  }
  float sum = 0;
  for (int lane = 0; lane < kPromiseLanes; ++lane) sum += sums[lane];
  return sum;
}

}  // namespace
}  // namespace tandem::cpu
