// Vectors of the compiler's, which it makes of the including file's instructions; in an unnamed namespace,
// and without anything inline from elsewhere, so that no code for one processor is linked into another's. The
// bits are the same on all of them.

#include <cstring>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {
namespace {

constexpr int kBoundLanes = 16;
typedef float BoundLanes __attribute__((vector_size(sizeof(float) * kBoundLanes)));

// Half a head's channels, with zeros behind them up to a whole vector: written where it is of use.
struct alignas(64) HalfChannels {
  float values[kMaxHeadDim / 2];

  void pad(int half, int whole) {
    for (int i = half; i < whole; ++i) values[i] = 0;
  }
};

float widenedScale(bf16 bits) { return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16); }

void boundPage(const PageBounds& page) {
  const int half = page.headDim / 2, whole = (half + kBoundLanes - 1) / kBoundLanes * kBoundLanes;
  HalfChannels cosines, sines, lowMiddles, highMiddles, lowReaches, highReaches;
  for (int i = 0; i < half; ++i) {
    cosines.values[i] = page.cosines[i];
    sines.values[i] = page.sines[i];
    lowMiddles.values[i] = widenedScale(page.middles[i]);
    highMiddles.values[i] = widenedScale(page.middles[half + i]);
    lowReaches.values[i] = page.reach * widenedScale(page.steps[i]);
    highReaches.values[i] = page.reach * widenedScale(page.steps[half + i]);
  }
  for (HalfChannels* channels : {&cosines, &sines, &lowMiddles, &highMiddles, &lowReaches, &highReaches}) {
    channels->pad(half, whole);
  }
  HalfChannels lowQuery, highQuery;
  lowQuery.pad(half, whole);
  highQuery.pad(half, whole);
  for (int row = 0; row < page.rows; ++row) {
    float highest = -__builtin_inff();
    for (int head = 0; head < page.heads; ++head) {
      const float* q = page.queries + row * page.rowStride + static_cast<std::int64_t>(head) * page.headDim;
      const float *a = q, *b = q + half;
      if (half != whole) {
        std::memcpy(lowQuery.values, a, sizeof(float) * half);
        std::memcpy(highQuery.values, b, sizeof(float) * half);
        a = lowQuery.values;
        b = highQuery.values;
      }
      BoundLanes sums{};
      for (int i = 0; i < whole; i += kBoundLanes) {
        BoundLanes x, y, cosine, sine, lowMiddle, highMiddle, lowReach, highReach;
        std::memcpy(&x, a + i, sizeof x);
        std::memcpy(&y, b + i, sizeof y);
        std::memcpy(&cosine, cosines.values + i, sizeof cosine);
        std::memcpy(&sine, sines.values + i, sizeof sine);
        std::memcpy(&lowMiddle, lowMiddles.values + i, sizeof lowMiddle);
        std::memcpy(&highMiddle, highMiddles.values + i, sizeof highMiddle);
        std::memcpy(&lowReach, lowReaches.values + i, sizeof lowReach);
        std::memcpy(&highReach, highReaches.values + i, sizeof highReach);
        const BoundLanes low = x * cosine - y * sine, high = y * cosine + x * sine;
        sums += low * lowMiddle + (low < 0 ? -low : low) * lowReach + high * highMiddle +
                (high < 0 ? -high : high) * highReach;
      }
      float bound[kBoundLanes];
      std::memcpy(bound, &sums, sizeof sums);
      for (int width = kBoundLanes / 2; width > 0; width /= 2) {
        for (int lane = 0; lane < width; ++lane) bound[lane] += bound[lane + width];
      }
      // What is not a number shall be seen; and it has no place in an order.
      if (bound[0] != bound[0]) bound[0] = __builtin_inff();
      if (bound[0] > highest) highest = bound[0];
    }
    page.bounds[row * page.boundStride] = highest;
  }
}

}  // namespace
}  // namespace tandem::cpu
