// Attention to packed pages: `Middles` of the including file says how the middles of 32 channels meet
// queries. In an unnamed namespace, so that no code for one processor is linked into another's.

#include <immintrin.h>

#include "cpu/attention/packed-codes-avx512.h"
#include "cpu/attention/packed-queries-avx512.h"
#include "cpu/attention/packed-softmax-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// q kt of R queries; one alone in two sums, since one product waits for another.
template <int R, int Bits>
void scoreQueries(const QueryTile& tile, const PackedCodes<Bits>& page, const PackedQueries& queries,
                  const std::uint32_t* visible, int first, float* scores, float* highest, Prefetch& next) {
  constexpr int kChains = R == 1 ? 2 : 1;
  __m512i sums[kChains * 4 * R];
  unroll<kChains * 4 * R>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  const std::int8_t* q = queries.numbers + first * kMaxHeadDim;
  for (int pair = 0; pair < tile.headDim / 8; pair += kChains) {
    unroll<kChains>([&](auto chain) {
      const int eight = pair + chain;
      const std::int8_t* numbers = q + placeOfEight(eight);
      next.step<Bits / 2>();
      unroll<2>([&](auto four) {
        const __m512i low = page.template key<2 * four>(eight), high = page.template key<2 * four + 1>(eight);
        unroll<R>([&](auto r) {
          constexpr int kSum = (chain * R + r) * 4 + 2 * four;
          const __m512i channels = broadcastFour(numbers + r * kMaxHeadDim + 4 * four);
          sums[kSum] = _mm512_dpbusd_epi32(sums[kSum], low, channels);
          sums[kSum + 1] = _mm512_dpbusd_epi32(sums[kSum + 1], high, channels);
        });
      });
    });
  }
  if constexpr (kChains == 2) unroll<4>([&](auto i) { sums[i] = _mm512_add_epi32(sums[i], sums[4 + i]); });
  const __m512 unseen = _mm512_set1_ps(-__builtin_inff());
  unroll<R>([&](auto r) {
    const int query = first + r;
    __m512 most = _mm512_loadu_ps(highest + query * kSumLanes);
    unroll<2>([&](auto half) {
      // Both are made of whole codes: what is shifted out is zero.
      const __m512i second = _mm512_srai_epi32(
          sums[4 * r + 2 + half], PackedCodes<Bits>::liftOf(2 + half) - PackedCodes<Bits>::liftOf(half));
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(sums[4 * r + half], second));
      constexpr float kUnlift = 1.0f / (1 << PackedCodes<Bits>::liftOf(half));
      const __m512 score = _mm512_fmadd_ps(sum, _mm512_set1_ps(queries.units[query] * kUnlift),
                                           _mm512_set1_ps(queries.offsets[query]));
      const __m512 seen =
          _mm512_mask_mov_ps(unseen, static_cast<__mmask16>(visible[query] >> (16 * half)), score);
      most = _mm512_max_ps(most, seen);
      _mm512_storeu_ps(scores + query * kPageTokens + half * 16, seen);
    });
    _mm512_storeu_ps(highest + query * kSumLanes, most);
  });
}

// out = out * factor + offset + unit * (p v) for R queries and C vectors of channels.
template <int R, int C, int Bits>
void addValues(const QueryTile& tile, std::span<const PageCodes> pages, const PackedWeights& weights,
               int first, int channel, Prefetch* next) {
  __m512i sums[R * C];
  unroll<R * C>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const PackedCodes<Bits> page(pages[i]);
    const std::uint8_t* p = weights.numbers[i] + first * kPageTokens;
    for (int half = 0; half < 2; ++half, p += kPageTokens / 2) {
      next[i].step<(C > 4 ? C : 4)>();
      unroll<4>([&](auto four) {
        __m512i v[C];
        unroll<C>([&](auto c) { v[c] = page.template value<four>(channel / 16 + c, half); });
        unroll<R>([&](auto r) {
          const __m512i numbers = broadcastFour(p + r * kPageTokens + 4 * four);
          unroll<C>([&](auto c) { sums[r * C + c] = _mm512_dpbusd_epi32(sums[r * C + c], numbers, v[c]); });
        });
      });
    }
  }
  unroll<R>([&](auto r) {
    const __m512 factor = _mm512_set1_ps(weights.factors[first + r]);
    const __m512 offset = _mm512_set1_ps(weights.offsets[first + r]);
    const __m512 unit = _mm512_set1_ps(weights.units[first + r]);
    float* out = tile.out + static_cast<std::size_t>(first + r) * tile.headDim + channel;
    unroll<C>([&](auto c) {
      const __m512 before = _mm512_fmadd_ps(_mm512_loadu_ps(out + c * 16), factor, offset);
      _mm512_storeu_ps(out + c * 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r * C + c]), unit, before));
    });
  });
}

template <int Bits>
void attend(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  PackedScores scores;
  for (int query = 0; query < tile.queries; ++query) {
    _mm512_store_ps(scores.highest + query * kSumLanes, _mm512_set1_ps(kNothingSeen));
  }
  PackedQueries queries[kMostTogether];
  foldQueries<Bits, Middles>(tile, pages, queries, next);
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const PackedCodes<Bits> page(pages[i]);
    byGroups<4>(tile.queries, [&](auto r, int first) {
      scoreQueries<r, Bits>(tile, page, queries[i], pages[i].visible, first, scores.of[i], scores.highest,
                            next[i]);
    });
  }
  PackedWeights weights;
  packedSoftmax<Bits>(tile, pages, scores, weights, next);
  if (!tile.out) return;
  byGroups<4>(tile.queries, [&](auto r, int first) {
    // As many sums as keep products from waiting for each other.
    constexpr int kColumns = r == 1 ? 8 : 4;
    byGroups<kColumns>(tile.headDim / 16, [&](auto c, int column) {
      addValues<r, c, Bits>(tile, pages, weights, first, column * 16, next);
    });
  });
}

}  // namespace
}  // namespace tandem::cpu
