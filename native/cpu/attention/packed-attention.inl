// Attention to packed pages by the products of packed-products.inl; what has none is in
// packed-queries-avx2.cc and packed-softmax-avx2.cc.

#include "cpu/attention/packed-attention-avx2.h"
#include "cpu/attention/packed-products.inl"

namespace tandem::cpu {
namespace {

// out = out * factor + offset + unit * (p v) for R queries and C vectors of 8 channels.
template <int R, int C, int Bits>
void addValues(const QueryTile& tile, std::span<const PageCodes> pages, const ByteWeights& weights, int first,
               int vector, Prefetch* next) {
  using Sums = ByteSums<R * C, kMostOfProbability * kMostOfCode<Bits>>;
  Sums sums;
  const int count = static_cast<int>(pages.size());
  for (int i = 0; i < count; ++i) {
    const std::uint8_t* p = weights.numbers[i] + first * kPageTokens;
    const std::byte* columns = pages[i].values + vector / 2 * (2 * kFourVectors<Bits>);
    for (int half = 0; half < 2; ++half, p += kPageTokens / 2, columns += kFourVectors<Bits>) {
      next[i].step<C>();
      unroll<4>([&](auto four) {
        __m256i v[C];
        unroll<C>([&](auto c) {
          const int at = vector % 2 + c;
          v[c] = codesOf<Bits, four>(columns + at / 2 * (2 * kFourVectors<Bits>), at % 2);
        });
        unroll<R>([&](auto r) {
          const __m256i numbers = broadcastFour(p + r * kPageTokens + 4 * four);
          unroll<C>([&](auto c) { sums.template add<r * C + c>(numbers, v[c]); });
        });
      });
      if constexpr (Sums::kHeld < 8) sums.collect();
    }
    // Two pages' products fit where one half's are not the most.
    if (Sums::kHeld >= 8 && (i % 2 == 1 || i + 1 == count)) sums.collect();
  }
  static_assert(Sums::kHeld >= 16 || (Sums::kHeld >= 4 && Sums::kHeld < 8));
  unroll<R>([&](auto r) {
    const __m256 factor = _mm256_set1_ps(weights.factors[first + r]);
    const __m256 offset = _mm256_set1_ps(weights.offsets[first + r]);
    const __m256 unit = _mm256_set1_ps(weights.units[first + r]);
    float* out = tile.out + static_cast<std::size_t>(first + r) * tile.headDim + vector * 8;
    unroll<C>([&](auto c) {
      const __m256 before = _mm256_fmadd_ps(_mm256_loadu_ps(out + c * 8), factor, offset);
      const __m256 sum = _mm256_cvtepi32_ps(sums.template sum<r * C + c>());
      _mm256_storeu_ps(out + c * 8, _mm256_fmadd_ps(sum, unit, before));
    });
  });
}

template <int Bits>
void attendPacked(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  ByteQueries queries[kMostTogether];
  foldByteQueries<Bits>(tile, pages, queries, next);
  ByteScores scores;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    byGroups<4>(tile.queries, [&](auto r, int first) {
      multiplyKeys<r, Bits>(pages[i].keys, tile.headDim, queries[i].numbers + first * kMaxHeadDim,
                            scores.of[i] + first * kPageTokens, next[i]);
    });
  }
  ByteWeights weights;
  softmaxBytes<Bits>(tile, pages, queries, scores, weights, next);
  if (!tile.out) return;
  byGroups<4>(tile.queries, [&](auto r, int first) {
    byGroups<kMostSums / r>(tile.headDim / 8, [&](auto c, int vector) {
      addValues<r, c, Bits>(tile, pages, weights, first, vector, next);
    });
  });
}

}  // namespace
}  // namespace tandem::cpu
