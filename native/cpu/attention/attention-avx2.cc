#include <immintrin.h>

#include <algorithm>
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

// q kt of R queries: 8 tokens a vector, one channel pair after the other. q [queries][headDim] float32.
template <int R>
void scoreQueries(const QueryTile& tile, const bf16* keys, const float* q, int first, float* scores,
                  Prefetch& next) {
  __m256 sums[4 * R];
  unroll<4 * R>([&](auto i) { sums[i] = _mm256_setzero_ps(); });
  const float* row = q + static_cast<std::size_t>(first) * tile.headDim;
  for (int channel = 0; channel < tile.headDim; channel += 2, keys += 2 * kPageTokens) {
    next.step<2>();
    __m256 even[R], odd[R];
    unroll<R>([&](auto r) {
      even[r] = _mm256_broadcast_ss(row + static_cast<std::size_t>(r) * tile.headDim + channel);
      odd[r] = _mm256_broadcast_ss(row + static_cast<std::size_t>(r) * tile.headDim + channel + 1);
    });
    unroll<4>([&](auto v) {
      const __m256i pairs = loadPairs(keys + v * 16);
      const __m256 a = firsts(pairs), b = seconds(pairs);
      unroll<R>([&](auto r) {
        sums[r * 4 + v] = _mm256_fmadd_ps(a, even[r], sums[r * 4 + v]);
        sums[r * 4 + v] = _mm256_fmadd_ps(b, odd[r], sums[r * 4 + v]);
      });
    });
  }
  unroll<4 * R>([&](auto i) { _mm256_storeu_ps(scores + first * kPageTokens + i * 8, sums[i]); });
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

// scores become probabilities [kTileQueries][kPageTokens], rounded to bf16; see softmaxPage for AVX-512.
void softmaxPage(const QueryTile& tile, const PageTile& page, float* scores, float* factors, float* offsets) {
  for (int query = 0; query < tile.queries; ++query) {
    float* row = scores + query * kPageTokens;
    const float before = tile.maximum[query];
    __m256 s[4];
    __m256 top = _mm256_set1_ps(kNothingSeen);
    const __m256 keyOffset = _mm256_set1_ps(page.keyOffsets ? page.keyOffsets[query] : 0.0f);
    unroll<4>([&](auto v) {
      __m256 scale = _mm256_set1_ps(tile.scale);
      if (page.keyScales) scale = _mm256_mul_ps(scale, _mm256_loadu_ps(page.keyScales + v * 8));
      s[v] = _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()),
                              _mm256_mul_ps(_mm256_add_ps(_mm256_loadu_ps(row + v * 8), keyOffset), scale),
                              laneMask(page.visible[query] >> (v * 8)));
      top = _mm256_max_ps(s[v], top);
    });
    const float highest = std::max(before, reduceMax(top));
    const __m256 factor = exp2Avx2(_mm256_set1_ps(before - highest));
    tile.maximum[query] = highest;
    factors[query] = _mm256_cvtss_f32(factor);
    unroll<4>([&](auto v) { s[v] = exp2Avx2(_mm256_sub_ps(s[v], _mm256_set1_ps(highest))); });
    unroll<2>([&](auto half) {
      float* sum = tile.sum + query * kSumLanes + half * 8;
      _mm256_storeu_ps(sum,
                       _mm256_fmadd_ps(_mm256_loadu_ps(sum), factor, _mm256_add_ps(s[half], s[half + 2])));
    });
    offsets[query] = 0;
    if (page.valueMiddles) {
      __m256 middle = _mm256_setzero_ps();
      unroll<4>([&](auto v) {
        middle = _mm256_fmadd_ps(s[v], _mm256_loadu_ps(page.valueMiddles + v * 8), middle);
      });
      offsets[query] = reduceAdd(middle);
    }
    unroll<4>([&](auto v) {
      if (page.valueScales) s[v] = _mm256_mul_ps(s[v], _mm256_loadu_ps(page.valueScales + v * 8));
      _mm256_storeu_ps(row + v * 8, roundToBf16(s[v]));
    });
  }
}

// out = out * factor + offset + p v for R queries and C vectors of 8 channels, one token pair after the
// other.
template <int R, int C>
void addValues(const QueryTile& tile, const bf16* values, const float* probabilities, const float* factors,
               const float* offsets, int first, int channel, Prefetch& next) {
  __m256 sums[R * C];
  float* out = tile.out + static_cast<std::size_t>(first) * tile.headDim + channel;
  unroll<R>([&](auto r) {
    const __m256 factor = _mm256_set1_ps(factors[first + r]), offset = _mm256_set1_ps(offsets[first + r]);
    unroll<C>([&](auto c) {
      sums[r * C + c] = _mm256_fmadd_ps(
          _mm256_loadu_ps(out + static_cast<std::size_t>(r) * tile.headDim + c * 8), factor, offset);
    });
  });
  const bf16* column = values + 2 * channel;
  for (int t = 0; t < kPageTokens; t += 2, column += 2 * tile.headDim) {
    next.step<2>();
    __m256 even[R], odd[R];
    unroll<R>([&](auto r) {
      even[r] = _mm256_broadcast_ss(probabilities + (first + r) * kPageTokens + t);
      odd[r] = _mm256_broadcast_ss(probabilities + (first + r) * kPageTokens + t + 1);
    });
    unroll<C>([&](auto c) {
      const __m256i pairs = loadPairs(column + c * 16);
      const __m256 a = firsts(pairs), b = seconds(pairs);
      unroll<R>([&](auto r) {
        sums[r * C + c] = _mm256_fmadd_ps(a, even[r], sums[r * C + c]);
        sums[r * C + c] = _mm256_fmadd_ps(b, odd[r], sums[r * C + c]);
      });
    });
  }
  unroll<R>([&](auto r) {
    unroll<C>([&](auto c) {
      _mm256_storeu_ps(out + static_cast<std::size_t>(r) * tile.headDim + c * 8, sums[r * C + c]);
    });
  });
}

template <int R>
void addAllValues(const QueryTile& tile, const bf16* values, const float* probabilities, const float* factors,
                  const float* offsets, int first, Prefetch& next) {
  int channel = 0;
  for (; channel + 32 <= tile.headDim; channel += 32) {
    addValues<R, 4>(tile, values, probabilities, factors, offsets, first, channel, next);
  }
  if (channel < tile.headDim)
    addValues<R, 2>(tile, values, probabilities, factors, offsets, first, channel, next);
}

}  // namespace

void attendPageAvx2(const QueryTile& tile, const PageTile& page, Prefetch& next) {
  alignas(32) float q[kTileQueries * kMaxHeadDim];
  alignas(32) float scores[kTileQueries * kPageTokens];
  float factors[kTileQueries], offsets[kTileQueries];
  for (int query = 0; query < tile.queries; ++query) {
    const bf16* source = tile.q + static_cast<std::size_t>(query) * tile.stride;
    float* row = q + query * tile.headDim;
    for (int channel = 0; channel < tile.headDim; channel += 8) {
      _mm256_storeu_ps(row + channel, widen(source + channel));
    }
  }
  int query = 0;
  for (; query + 2 <= tile.queries; query += 2) scoreQueries<2>(tile, page.keys, q, query, scores, next);
  if (query < tile.queries) scoreQueries<1>(tile, page.keys, q, query, scores, next);
  softmaxPage(tile, page, scores, factors, offsets);
  if (!tile.out) return;
  for (query = 0; query + 2 <= tile.queries; query += 2) {
    addAllValues<2>(tile, page.values, scores, factors, offsets, query, next);
  }
  if (query < tile.queries) addAllValues<1>(tile, page.values, scores, factors, offsets, query, next);
}

const AttentionKernels kAvx2Attention = {
    .attendPage = attendPageAvx2,
    .boundPage = boundPage,
    .scorePage = scorePageAvx2,
    .quantizeQueries = quantizeQueriesAvx2,
    .attendCodes = {nullptr, attendInt8Avx2, attendInt4Avx2, attendInt2Avx2}};

}  // namespace tandem::cpu
