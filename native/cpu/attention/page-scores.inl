// What packed pages score, in the products of packed-products.inl. Everything is in an unnamed namespace, so
// that no code for one processor is linked into another's.

#include <immintrin.h>

#include "cpu/attention/kernels.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/packed-order.h"
#include "cpu/attention/packed-products.inl"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// R queries, turned and multiplied by a page's steps, as bytes: score = unit * (numbers . codes) + offset.
template <int R>
struct TurnedBytes {
  alignas(32) std::int8_t numbers[R * kMaxHeadDim];
  float units[R], offsets[R];
};

// 16 numbers as bytes, in the order in which a page's codes are masked out of their words.
template <int Bits>
[[gnu::always_inline]] inline __m128i bytesOf(__m256i first, __m256i second) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), _MM_SHUFFLE(3, 1, 2, 0));
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  return _mm_shuffle_epi8(bytes, _mm_load_si128(reinterpret_cast<const __m128i*>(kEightPlaces<Bits>.places)));
}

template <int Bits, int R>
void foldTurned(const PageScores& page, const float* query, int index, TurnedBytes<R>& out) {
  const TurnedQueries& of = page.of;
  const int half = of.headDim / 2;
  alignas(32) float products[kMaxHeadDim];
  __m256 middles = _mm256_setzero_ps(), largest = _mm256_setzero_ps();
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (int i = 0; i < half; i += 8) {
    const __m256 cosine = _mm256_loadu_ps(of.cosines + i), sine = _mm256_loadu_ps(of.sines + i);
    const __m256 a = _mm256_loadu_ps(query + i), b = _mm256_loadu_ps(query + half + i);
    const __m256 low = _mm256_fmsub_ps(a, cosine, _mm256_mul_ps(b, sine)),
                 high = _mm256_fmadd_ps(b, cosine, _mm256_mul_ps(a, sine));
    middles = _mm256_fmadd_ps(low, widen(page.middles + i), middles);
    middles = _mm256_fmadd_ps(high, widen(page.middles + half + i), middles);
    const __m256 lowProduct = _mm256_mul_ps(low, widen(page.steps + i)),
                 highProduct = _mm256_mul_ps(high, widen(page.steps + half + i));
    largest = _mm256_max_ps(
        largest, _mm256_max_ps(_mm256_and_ps(lowProduct, magnitude), _mm256_and_ps(highProduct, magnitude)));
    _mm256_storeu_ps(products + i, lowProduct);
    _mm256_storeu_ps(products + half + i, highProduct);
  }
  const float most = reduceMax(largest);
  // What vanishes or is no number becomes zeros; the latter shows in the middles' sum.
  const bool isUsable = most >= 1e-30f && most <= 1e30f;
  const __m256 factor = _mm256_set1_ps(isUsable ? kMostOfQuery / most : 0.0f);
  out.units[index] = isUsable ? most / kMostOfQuery : 0.0f;
  __m256i rounded = _mm256_setzero_si256();
  for (int channel = 0; channel < of.headDim; channel += 16) {
    const auto numbersAt = [&](int at) __attribute__((always_inline)) {
      return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(products + at), factor));
    };
    const __m256i first = numbersAt(channel), second = numbersAt(channel + 8);
    rounded = _mm256_add_epi32(rounded, _mm256_add_epi32(first, second));
    _mm_store_si128(reinterpret_cast<__m128i*>(out.numbers + index * kMaxHeadDim + channel),
                    bytesOf<Bits>(first, second));
  }
  const float ofLevels = reduceAdd(_mm256_cvtepi32_ps(rounded)) * levelOf(Bits, (1 << Bits) - 1);
  out.offsets[index] = reduceAdd(middles) - out.units[index] * ofLevels;
}

// The highest score of each of R queries.
template <int R, int Bits>
void scoreGroup(const PageScores& page, int first) {
  TurnedBytes<R> queries;
  unroll<R>([&](auto r) { foldTurned<Bits>(page, page.of.query(first + r), r, queries); });
  alignas(32) std::int32_t sums[R * kPageTokens];
  Prefetch nothing;
  multiplyKeys<R, Bits>(page.keys, page.of.headDim, queries.numbers, sums, nothing);
  unroll<R>([&](auto r) {
    const __m256 unit = _mm256_set1_ps(queries.units[r]), offset = _mm256_set1_ps(queries.offsets[r]);
    __m256 scores[4];
    unroll<4>([&](auto i) {
      const auto* eight = reinterpret_cast<const __m256i*>(sums + r * kPageTokens + i * 8);
      scores[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_load_si256(eight)), unit, offset);
    });
    page.scores[first + r] =
        reduceMax(_mm256_max_ps(_mm256_max_ps(scores[0], scores[1]), _mm256_max_ps(scores[2], scores[3])));
  });
}

template <int Bits>
void score(const PageScores& page) {
  byGroups<2>(page.of.rows * page.of.heads, [&](auto r, int first) { scoreGroup<r, Bits>(page, first); });
}

void scorePage(const PageScores& page) {
  if (page.bits == 4) {
    score<4>(page);
  } else {
    score<2>(page);
  }
}

}  // namespace
}  // namespace tandem::cpu
