#include <immintrin.h>

#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/packed-attention-avx2.h"
#include "cpu/attention/packed-order.h"
#include "cpu/attention/softmax-avx2.h"
#include "cpu/attention/whole-numbers-avx2.h"
#include "cpu/attention/whole-numbers.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

constexpr float kTopByte = 255;
constexpr int kVectors = kPageTokens / 8;
constexpr std::uint32_t kAll = 0xffffffffu;

// One float for each token of a few pages.
struct TokenFloats {
  alignas(32) float of[kMostTogether][kPageTokens];
};

// As exp2Packed of AVX-512, for x that may be a little above 0 too. Below 2^-126 the result is 0.
[[gnu::always_inline]] inline __m256 exp2Packed(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-127.0f), x);
  // Added to so large a number, x is rounded to a whole one, whose last bits are those of n + 127.
  const __m256 large = _mm256_set1_ps(0x1.8p23f + 127);
  const __m256 shifted = _mm256_add_ps(x, large);
  const __m256 r = _mm256_sub_ps(x, _mm256_sub_ps(shifted, large));
  __m256 p = _mm256_set1_ps(0.009582853f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.055906425f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.24024099f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.6931242f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}

// A query's bytes of a page, from whole numbers of eight tokens each.
template <int Bits>
[[gnu::always_inline]] inline __m256i packPage(const __m256i (&numbers)[kVectors]) {
  // In each half, four neighbouring tokens of every vector.
  const __m256i packed = _mm256_packus_epi16(_mm256_packs_epi32(numbers[0], numbers[1]),
                                             _mm256_packs_epi32(numbers[2], numbers[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_shuffle_epi8(
      _mm256_permutevar8x32_epi32(packed, order),
      _mm256_load_si256(reinterpret_cast<const __m256i*>(kSixteenPlaces<Bits>.places)));
}

// 32 tokens' scales: steps, or, behind them, middles.
[[gnu::always_inline]] inline void widenTokens(const bf16* scales, std::uint32_t visible, float* out) {
  unroll<kVectors>([&](auto v) {
    // What nobody sees may be anything: it must neither count nor overflow.
    _mm256_store_ps(out + v * 8, _mm256_and_ps(widen(scales + v * 8), laneMask(visible >> (v * 8))));
  });
}

// A few pages' value scales for queries that see the same of them. The steps become numbers per probability:
// the largest of a token that is seen becomes kTopByte.
struct ValueScales {
  TokenFloats steps, middles;
  float unit;

  template <class VisibleOf>
  ValueScales(std::span<const PageCodes> pages, VisibleOf visibleOf) {
    // As whole numbers, of which NaN is larger than all.
    __m256i most = _mm256_setzero_si256();
    for (std::size_t i = 0; i < pages.size(); ++i) {
      const auto* scales = reinterpret_cast<const bf16*>(pages[i].valueScales);
      const std::uint32_t visible = visibleOf(pages[i]);
      widenTokens(scales, visible, steps.of[i]);
      widenTokens(scales + kPageTokens, visible, middles.of[i]);
      unroll<kVectors>([&](auto v) {
        const __m256i bits = _mm256_castps_si256(_mm256_load_ps(steps.of[i] + v * 8));
        most = _mm256_max_epi32(most, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
      });
    }
    const float largest = largestOf(_mm256_srli_epi32(most, 16));
    unit = largest / kTopByte;
    const __m256 per = _mm256_set1_ps(numbersPer(largest, kTopByte));
    for (std::size_t i = 0; i < pages.size(); ++i) {
      unroll<kVectors>([&](auto v) {
        _mm256_store_ps(steps.of[i] + v * 8, _mm256_mul_ps(_mm256_load_ps(steps.of[i] + v * 8), per));
      });
    }
  }
};

bool seesAll(std::span<const PageCodes> pages, int query) {
  std::uint32_t visible = kAll;
  for (const PageCodes& page : pages) visible &= page.visible[query];
  return visible == kAll;
}

// Lane i of the result is the largest of vector i.
[[gnu::always_inline]] inline __m128i largestOfFour(const __m256i (&v)[4]) {
  const __m256i first =
      _mm256_max_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
  const __m256i second =
      _mm256_max_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
  const __m256i lanes =
      _mm256_max_epi32(_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second));
  return _mm_max_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
}

// The highest score of each of R queries from `first` on among the tokens that it sees of a few pages. A
// score that is no number is passed over here, and shows in the sums.
template <int R>
[[gnu::always_inline]] inline __m128 highestScores(std::span<const PageCodes> pages,
                                                   const ByteQueries* queries, const ByteScores& scores,
                                                   int first) {
  __m128 highest = _mm_set1_ps(kNothingSeen);
  const __m256i unseen = _mm256_set1_epi32(INT32_MIN);
  for (std::size_t i = 0; i < pages.size(); ++i) {
    __m256i most[4];
    unroll<4>([&](auto r) { most[r] = unseen; });
    unroll<R>([&](auto r) {
      const int query = first + r;
      const auto* score = reinterpret_cast<const __m256i*>(scores.of[i] + query * kPageTokens);
      const std::uint32_t visible = pages[i].visible[query];
      unroll<kVectors>([&](auto v) {
        __m256i here = _mm256_load_si256(score + v);
        if (visible != kAll) {
          here = _mm256_blendv_epi8(unseen, here, _mm256_castps_si256(laneMask(visible >> (v * 8))));
        }
        most[r] = _mm256_max_epi32(most[r], here);
      });
    });
    const __m128i all = largestOfFour(most);
    const __m128 score = _mm_fmadd_ps(_mm_cvtepi32_ps(all), _mm_loadu_ps(queries[i].units + first),
                                      _mm_loadu_ps(queries[i].offsets + first));
    const __m128 isSeen = _mm_castsi128_ps(_mm_cmpgt_epi32(all, _mm256_castsi256_si128(unseen)));
    highest = _mm_max_ps(_mm_blendv_ps(highest, score, isSeen), highest);
  }
  return highest;
}

// For R queries from `first` on.
template <int R, int Bits>
[[gnu::always_inline]] inline void softmaxGroup(const QueryTile& tile, std::span<const PageCodes> pages,
                                                const ByteQueries* queries, const ByteScores& scores,
                                                const ValueScales& scalesOfAll, int first,
                                                ByteWeights& weights, Prefetch* next) {
  const SoftmaxRise rise =
      raiseMaximum<R>(tile.maximum + first, highestScores<R>(pages, queries, scores, first));
  __m256 middles[4];
  __m256i numberSums[4];
  __m128 units = _mm_set1_ps(scalesOfAll.unit);
  unroll<4>([&](auto r) { middles[r] = _mm256_setzero_ps(), numberSums[r] = _mm256_setzero_si256(); });
  for (int r = 0; r < R; ++r) {
    const int query = first + r;
    const auto pass = [&](const ValueScales& scales, auto isMasked) __attribute__((always_inline)) {
      __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, middle = _mm256_setzero_ps();
      __m256i numberSum = _mm256_setzero_si256();
      for (std::size_t i = 0; i < pages.size(); ++i) {
        next[i].step<2>();
        const __m256 unit = _mm256_set1_ps(queries[i].units[query]);
        const __m256 offset = _mm256_set1_ps(queries[i].offsets[query] - rise.tops[r]);
        const auto* score = reinterpret_cast<const __m256i*>(scores.of[i] + query * kPageTokens);
        __m256i numbers[kVectors];
        unroll<kVectors>([&](auto v) {
          __m256 p =
              exp2Packed(_mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_load_si256(score + v)), unit, offset));
          if constexpr (isMasked) p = _mm256_and_ps(p, laneMask(pages[i].visible[query] >> (v * 8)));
          sums[v % 2] = _mm256_add_ps(sums[v % 2], p);
          if (!tile.out) return;
          middle = _mm256_fmadd_ps(p, _mm256_load_ps(scales.middles.of[i] + v * 8), middle);
          numbers[v] = _mm256_cvtps_epi32(_mm256_mul_ps(p, _mm256_load_ps(scales.steps.of[i] + v * 8)));
        });
        if (!tile.out) continue;
        const __m256i bytes = packPage<Bits>(numbers);
        numberSum = _mm256_add_epi32(numberSum, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
        _mm256_store_si256(reinterpret_cast<__m256i*>(weights.numbers[i] + query * kPageTokens), bytes);
      }
      unroll<2>([&](auto half) {
        float* sum = tile.sum + query * kSumLanes + half * 8;
        const __m256 earlier = _mm256_mul_ps(_mm256_loadu_ps(sum), _mm256_set1_ps(rise.factors[r]));
        _mm256_storeu_ps(sum, _mm256_fmadd_ps(sums[half], _mm256_set1_ps(rise.locals[r]), earlier));
      });
      middles[r] = middle;
      numberSums[r] = numberSum;
    };
    if (seesAll(pages, query)) {
      pass(scalesOfAll, std::false_type{});
    } else {
      const ValueScales scales(pages, [query](const PageCodes& page) { return page.visible[query]; });
      pass(scales, std::true_type{});
      const __m128i lane = _mm_cmpeq_epi32(_mm_set1_epi32(r), _mm_setr_epi32(0, 1, 2, 3));
      units = _mm_blendv_ps(units, _mm_set1_ps(scales.unit), _mm_castsi128_ps(lane));
    }
  }
  if (!tile.out) return;
  __m256 four[4];
  unroll<4>([&](auto r) { four[r] = _mm256_cvtepi32_ps(numberSums[r]); });
  const __m128 local = _mm_load_ps(rise.locals);
  const __m128 below = _mm_mul_ps(_mm_mul_ps(reduceFour(four, AddLanes{}), units),
                                  _mm_set1_ps(levelOf(Bits, (1 << Bits) - 1)));
  const __m128 offsets = _mm_sub_ps(reduceFour(middles, AddLanes{}), below);
  _mm_storeu_ps(weights.factors + first, _mm_load_ps(rise.factors));
  _mm_storeu_ps(weights.units + first, _mm_mul_ps(units, local));
  _mm_storeu_ps(weights.offsets + first, _mm_mul_ps(offsets, local));
}

}  // namespace

template <int Bits>
void softmaxBytes(const QueryTile& tile, std::span<const PageCodes> pages, const ByteQueries* queries,
                  const ByteScores& scores, ByteWeights& weights, Prefetch* next) {
  const ValueScales scalesOfAll(pages, [](const PageCodes&) { return kAll; });
  byGroups<4>(tile.queries, [&](auto r, int first) {
    softmaxGroup<r, Bits>(tile, pages, queries, scores, scalesOfAll, first, weights, next);
  });
}

template void softmaxBytes<4>(const QueryTile&, std::span<const PageCodes>, const ByteQueries*,
                              const ByteScores&, ByteWeights&, Prefetch*);
template void softmaxBytes<2>(const QueryTile&, std::span<const PageCodes>, const ByteQueries*,
                              const ByteScores&, ByteWeights&, Prefetch*);

}  // namespace tandem::cpu
