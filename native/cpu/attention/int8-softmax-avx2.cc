#include <immintrin.h>

#include "cpu/attention/int8-attention-avx2.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/softmax-avx2.h"
#include "cpu/attention/whole-numbers.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

constexpr std::uint32_t kAll = 0xffffffffu;
constexpr int kVectors = kPageTokens / 8;

// One float for each token of a page.
struct TokenFloats {
  __m256 of[kVectors];
};

[[gnu::always_inline]] inline TokenFloats scaled(const std::byte* scales, float factor) {
  const auto* floats = reinterpret_cast<const float*>(scales);
  TokenFloats all;
  unroll<kVectors>(
      [&](auto v) { all.of[v] = _mm256_mul_ps(_mm256_loadu_ps(floats + v * 8), _mm256_set1_ps(factor)); });
  return all;
}

// Probabilities times value scales as whole numbers: their `unit` is such that the largest scale of a token
// that is seen becomes kTopNumber. A probability is relative to the page's highest, 1 at most.
struct ProbabilityNumbers {
  TokenFloats per;  // numbers per probability
  float unit;
};

ProbabilityNumbers probabilityNumbers(const float* scales, std::uint32_t visible) {
  ProbabilityNumbers numbers;
  // As integers NaN is larger than all numbers, and stays.
  __m256i most = _mm256_setzero_si256();
  unroll<kVectors>([&](auto v) {
    // What nobody sees may be anything: it must neither count nor overflow.
    const __m256 seen = _mm256_and_ps(_mm256_loadu_ps(scales + v * 8), laneMask(visible >> (v * 8)));
    const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(seen), _mm256_set1_epi32(0x7fffffff));
    most = _mm256_max_epi32(most, magnitude);
    numbers.per.of[v] = seen;
  });
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, _MM_SHUFFLE(1, 0, 3, 2)));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, _MM_SHUFFLE(2, 3, 0, 1)));
  const float largest = __builtin_bit_cast(float, _mm_cvtsi128_si32(half));
  const __m256 per = _mm256_set1_ps(numbersPer(largest));
  unroll<kVectors>([&](auto v) { numbers.per.of[v] = _mm256_mul_ps(numbers.per.of[v], per); });
  numbers.unit = largest / kTopNumber;
  return numbers;
}

// For R queries from `first` on, of which the steps that wait for each other are taken together.
template <int R>
[[gnu::always_inline]] inline void softmaxQueries(const QueryTile& tile, const PageCodes& page,
                                                  const std::int32_t* scores, const TokenFloats& keys,
                                                  const ProbabilityNumbers& whole, int first,
                                                  WholeWeights& weights) {
  alignas(32) float s[R][kPageTokens];
  __m256 tops[4];
  unroll<4>([&](auto r) { tops[r] = _mm256_setzero_ps(); });
  unroll<R>([&](auto r) {
    const int query = first + r;
    const __m256 unit = _mm256_set1_ps(tile.units[query]);
    unroll<kVectors>([&](auto v) {
      const auto* from = reinterpret_cast<const __m256i*>(scores + query * kPageTokens + v * 8);
      const __m256 score =
          _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_load_si256(from)), _mm256_mul_ps(unit, keys.of[v]));
      const __m256 seen = _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), score,
                                           laneMask(page.visible[query] >> (v * 8)));
      _mm256_store_ps(s[r] + v * 8, seen);
      tops[r] = v == 0 ? seen : _mm256_max_ps(tops[r], seen);
    });
  });
  const SoftmaxRise rise = raiseMaximum<R>(tile.maximum + first, reduceFour(tops, MaxLanes{}));

  unroll<R>([&](auto r) {
    const int query = first + r;
    const __m256 top = _mm256_set1_ps(rise.tops[r]);
    __m256 p[kVectors];
    unroll<kVectors>([&](auto v) { p[v] = exp2Avx2(_mm256_sub_ps(_mm256_load_ps(s[r] + v * 8), top)); });
    unroll<2>([&](auto half) {
      float* sum = tile.sum + query * kSumLanes + half * 8;
      const __m256 earlier = _mm256_mul_ps(_mm256_loadu_ps(sum), _mm256_set1_ps(rise.factors[r]));
      const __m256 both = _mm256_add_ps(p[half], p[half + 2]);
      _mm256_storeu_ps(sum, _mm256_fmadd_ps(both, _mm256_set1_ps(rise.locals[r]), earlier));
    });
    if (!tile.out) return;
    const std::uint32_t visible = page.visible[query];
    const auto* scales = reinterpret_cast<const float*>(page.valueScales);
    const ProbabilityNumbers numbers = visible == kAll ? whole : probabilityNumbers(scales, visible);
    unroll<2>([&](auto half) {
      const auto whole = [&](int v) { return _mm256_cvtps_epi32(_mm256_mul_ps(p[v], numbers.per.of[v])); };
      const __m256i packed = _mm256_packs_epi32(whole(2 * half), whole(2 * half + 1));
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights.numbers + query * kPageTokens + half * 16),
                         _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
    });
    weights.factors[query] = rise.factors[r];
    weights.units[query] = numbers.unit * rise.locals[r];
  });
}

}  // namespace

void softmaxInt8Avx2(const QueryTile& tile, const PageCodes& page, const std::int32_t* scores,
                     WholeWeights& weights) {
  const TokenFloats keys = scaled(page.keyScales, tile.scale);
  const ProbabilityNumbers whole = probabilityNumbers(reinterpret_cast<const float*>(page.valueScales), kAll);
  byGroups<4>(tile.queries,
              [&](auto r, int first) { softmaxQueries<r>(tile, page, scores, keys, whole, first, weights); });
}

}  // namespace tandem::cpu
