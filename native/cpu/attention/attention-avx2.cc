#include <immintrin.h>

#include <cstddef>

#include "cpu/attention/attention-avx2.h"
#include "cpu/attention/int8-attention-avx2.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/packed-attention-avx2.h"
#include "cpu/attention/page-bounds.inl"
#include "cpu/attention/page-scores-avx2.h"
#include "cpu/attention/softmax-avx2.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// What V vectors of bf16 pairs, two vectors at a time, add to sums of R queries that each have two factors,
// one for the first of each pair and one for the second.
template <int R, int V>
[[gnu::always_inline]] inline void addProducts(__m256 (&sums)[R * V], const bf16* pairs, const float* factors,
                                               std::size_t queryStride) {
  unroll<V / 2>([&](auto two) {
    constexpr int v = 2 * two;
    const __m256i pairs0 = loadPairs(pairs + v * 16), pairs1 = loadPairs(pairs + v * 16 + 16);
    const auto add = [&](__m256 x0, __m256 x1, int which) __attribute__((always_inline)) {
      unroll<R>([&](auto r) {
        const __m256 factor = _mm256_broadcast_ss(factors + r * queryStride + which);
        sums[r * V + v] = _mm256_fmadd_ps(x0, factor, sums[r * V + v]);
        sums[r * V + v + 1] = _mm256_fmadd_ps(x1, factor, sums[r * V + v + 1]);
      });
    };
    add(firsts(pairs0), firsts(pairs1), 0);
    add(seconds(pairs0), seconds(pairs1), 1);
  });
}

// q kt of R queries and V vectors of 8 tokens, one channel pair after the other. q [queries][headDim]
// float32.
template <int R, int V>
void scoreQueries(const QueryTile& tile, const bf16* keys, const float* q, int first, int token,
                  float* scores, Prefetch& next) {
  __m256 sums[R * V];
  unroll<R * V>([&](auto i) { sums[i] = _mm256_setzero_ps(); });
  const std::size_t row = tile.headDim;
  q += first * row;
  keys += 2 * token;
  for (int channel = 0; channel < tile.headDim; channel += 2, q += 2, keys += 2 * kPageTokens) {
    next.step<V / 2>();
    addProducts<R, V>(sums, keys, q, row);
  }
  unroll<R>([&](auto r) {
    unroll<V>([&](auto v) {
      _mm256_storeu_ps(scores + (first + r) * kPageTokens + token + v * 8, sums[r * V + v]);
    });
  });
}

// Rounds to bf16 and back, to nearest even.
[[gnu::always_inline]] inline __m256 roundToBf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256 even =
      _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  return _mm256_blendv_ps(even, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

// For R queries from `first` on, of which the steps that wait for each other are taken together: scores
// become probabilities, rounded to bf16, and `factors` what the earlier sums are to be multiplied by.
template <int R>
[[gnu::always_inline]] inline void softmaxQueries(const QueryTile& tile, const std::uint32_t* visible,
                                                  int first, float* scores, float* factors) {
  __m256 tops[4];
  unroll<4>([&](auto r) { tops[r] = _mm256_set1_ps(kNothingSeen); });
  unroll<R>([&](auto r) {
    float* row = scores + (first + r) * kPageTokens;
    unroll<4>([&](auto v) {
      const __m256 score = _mm256_mul_ps(_mm256_load_ps(row + v * 8), _mm256_set1_ps(tile.scale));
      const __m256 seen =
          _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), score, laneMask(visible[first + r] >> (v * 8)));
      _mm256_store_ps(row + v * 8, seen);
      tops[r] = _mm256_max_ps(seen, tops[r]);
    });
  });
  const __m128 before = _mm_maskload_ps(tile.maximum + first, firstOfFour<R>());
  const __m128 highest = _mm_max_ps(reduceFour(tops, MaxLanes{}), before);
  const __m256 fall = _mm256_zextps128_ps256(_mm_sub_ps(before, highest));
  alignas(16) float highests[4], shrunk[4];
  _mm_store_ps(highests, highest);
  _mm_store_ps(shrunk, _mm256_castps256_ps128(exp2Avx2(fall)));
  _mm_maskstore_ps(tile.maximum + first, firstOfFour<R>(), highest);

  unroll<R>([&](auto r) {
    float* row = scores + (first + r) * kPageTokens;
    const __m256 top = _mm256_set1_ps(highests[r]), factor = _mm256_set1_ps(shrunk[r]);
    __m256 p[4];
    unroll<4>([&](auto v) { p[v] = exp2Avx2(_mm256_sub_ps(_mm256_load_ps(row + v * 8), top)); });
    unroll<2>([&](auto half) {
      float* sum = tile.sum + (first + r) * kSumLanes + half * 8;
      _mm256_storeu_ps(sum,
                       _mm256_fmadd_ps(_mm256_loadu_ps(sum), factor, _mm256_add_ps(p[half], p[half + 2])));
    });
    factors[first + r] = shrunk[r];
    unroll<4>([&](auto v) { _mm256_store_ps(row + v * 8, roundToBf16(p[v])); });
  });
}

// out = out * factor + p v for R queries and C vectors of 8 channels, one token pair after the
// other.
template <int R, int C>
void addValues(const QueryTile& tile, const bf16* values, const float* p, const float* factors, int first,
               int channel, Prefetch& next) {
  __m256 sums[R * C];
  const std::size_t row = tile.headDim;
  float* out = tile.out + first * row + channel;
  unroll<R>([&](auto r) {
    const __m256 factor = _mm256_set1_ps(factors[first + r]);
    unroll<C>(
        [&](auto c) { sums[r * C + c] = _mm256_mul_ps(_mm256_loadu_ps(out + r * row + c * 8), factor); });
  });
  p += first * kPageTokens;
  values += 2 * channel;
  for (int token = 0; token < kPageTokens; token += 2, p += 2, values += 2 * row) {
    next.step<C / 2>();
    addProducts<R, C>(sums, values, p, kPageTokens);
  }
  unroll<R>(
      [&](auto r) { unroll<C>([&](auto c) { _mm256_storeu_ps(out + r * row + c * 8, sums[r * C + c]); }); });
}

}  // namespace

void attendPageAvx2(const QueryTile& tile, const PageTile& page, Prefetch& next) {
  alignas(32) float q[kTileQueries * kMaxHeadDim];
  alignas(32) float scores[kTileQueries * kPageTokens];
  float factors[kTileQueries];
  for (int query = 0; query < tile.queries; ++query) {
    const bf16* source = tile.q + static_cast<std::size_t>(query) * tile.stride;
    float* row = q + query * tile.headDim;
    for (int channel = 0; channel < tile.headDim; channel += 8) {
      _mm256_storeu_ps(row + channel, widen(source + channel));
    }
  }
  // Eight sums a group, beside which all that they need stays in 16 registers: of four queries with two
  // vectors, so that a vector is widened for four products, and of fewer with more.
  byGroups<4>(tile.queries, [&](auto r, int first) {
    constexpr int kVectors = r == 4 ? 2 : 4;
    for (int token = 0; token < kPageTokens; token += kVectors * 8) {
      scoreQueries<r, kVectors>(tile, page.keys, q, first, token, scores, next);
    }
  });
  byGroups<4>(tile.queries,
              [&](auto r, int first) { softmaxQueries<r>(tile, page.visible, first, scores, factors); });
  if (!tile.out) return;
  byGroups<4>(tile.queries, [&](auto r, int first) {
    constexpr int kMost = r == 4 ? 1 : r == 2 ? 2 : 4;
    byGroups<kMost>(tile.headDim / 16, [&](auto c, int column) {
      addValues<r, 2 * c>(tile, page.values, scores, factors, first, column * 16, next);
    });
  });
}

const AttentionKernels kAvx2Attention = {
    .attendPage = attendPageAvx2,
    .boundPage = boundPage,
    .scorePage = scorePageAvx2,
    .quantizeQueries = quantizeQueriesAvx2,
    .attendCodes = {nullptr, attendInt8Avx2, attendInt4Avx2, attendInt2Avx2}};

}  // namespace tandem::cpu
