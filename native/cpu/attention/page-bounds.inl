// Vectors of the compiler's, which it makes of the including file's instructions; in an unnamed namespace,
// and without anything inline from elsewhere, so that no code for one processor is linked into another's. The
// bits are the same on all of them.

#include <cstring>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {
namespace {

constexpr int kBoundLanes = 16;
typedef float BoundLanes __attribute__((vector_size(4 * kBoundLanes)));
typedef std::uint32_t BoundWords __attribute__((vector_size(4 * kBoundLanes)));
typedef bf16 BoundScales __attribute__((vector_size(2 * kBoundLanes)));

// Up to `count` values of a head's half, and zeros in the other lanes.
template <class Vector, class Value>
void loadHalf(Vector& to, const Value* from, int count) {
  if (count >= kBoundLanes) {
    std::memcpy(&to, from, sizeof to);
  } else {
    to = Vector{};
    std::memcpy(&to, from, sizeof(Value) * count);
  }
}

void loadScales(BoundLanes& to, const bf16* from, int count) {
  BoundScales scales;
  loadHalf(scales, from, count);
  const BoundWords words = __builtin_convertvector(scales, BoundWords) << 16;
  std::memcpy(&to, &words, sizeof to);
}

float sumOf(const BoundLanes& lanes) {
  typedef float Half __attribute__((vector_size(sizeof(BoundLanes) / 2)));
  typedef float Quarter __attribute__((vector_size(sizeof(BoundLanes) / 4)));
  const auto* parts = reinterpret_cast<const char*>(&lanes);
  Half low, high;
  std::memcpy(&low, parts, sizeof low);
  std::memcpy(&high, parts + sizeof low, sizeof high);
  low += high;
  Quarter even, odd;
  parts = reinterpret_cast<const char*>(&low);
  std::memcpy(&even, parts, sizeof even);
  std::memcpy(&odd, parts + sizeof even, sizeof odd);
  even += odd;
  return (even[0] + even[2]) + (even[1] + even[3]);
}

void boundPage(const PageBounds& page) {
  const TurnedQueries& of = page.of;
  const int half = of.headDim / 2, queries = of.rows * of.heads;
  BoundLanes sums[kBlockQueries];
  for (int query = 0; query < queries; ++query) sums[query] = BoundLanes{};
  // What a page has for some channels is read once for all queries.
  for (int i = 0; i < half; i += kBoundLanes) {
    const int count = half - i;
    BoundLanes cosine, sine, lowMiddle, highMiddle, lowReach, highReach;
    loadHalf(cosine, of.cosines + i, count);
    loadHalf(sine, of.sines + i, count);
    loadScales(lowMiddle, page.middles + i, count);
    loadScales(highMiddle, page.middles + half + i, count);
    loadScales(lowReach, page.steps + i, count);
    loadScales(highReach, page.steps + half + i, count);
    lowReach *= page.reach;
    highReach *= page.reach;
    BoundLanes* sum = sums;
    for (int row = 0; row < of.rows; ++row) {
      const float* query = of.queries + row * of.rowStride + i;
      for (int head = 0; head < of.heads; ++head, query += of.headDim, ++sum) {
        BoundLanes a, b;
        loadHalf(a, query, count);
        loadHalf(b, query + half, count);
        const BoundLanes low = a * cosine - b * sine, high = b * cosine + a * sine;
        *sum += low * lowMiddle + (low < 0 ? -low : low) * lowReach + high * highMiddle +
                (high < 0 ? -high : high) * highReach;
      }
    }
  }
  for (int query = 0; query < queries; ++query) page.bounds[query] = sumOf(sums[query]);
}

}  // namespace
}  // namespace tandem::cpu
