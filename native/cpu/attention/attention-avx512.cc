#include <immintrin.h>

#include <cstring>

#include "cpu/attention/kernels.h"
#include "cpu/attention/softmax-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// Two neighbouring bf16 in every lane.
[[gnu::always_inline]] inline __m512bh broadcastPair(const bf16* pair) {
  std::int32_t bits;
  std::memcpy(&bits, pair, sizeof bits);
  return (__m512bh)_mm512_set1_epi32(bits);
}

[[gnu::always_inline]] inline __m512bh loadPairs(const bf16* pairs) {
  return (__m512bh)_mm512_loadu_si512(pairs);
}

// q kt of R queries: 16 tokens a vector, one channel pair after the other.
template <int R>
void scoreQueries(const QueryTile& tile, const bf16* keys, int first, float* scores, Prefetch& next) {
  __m512 sums[2 * R];
  unroll<2 * R>([&](auto i) { sums[i] = _mm512_setzero_ps(); });
  const bf16* q = tile.q + static_cast<std::size_t>(first) * tile.stride;
  for (int channel = 0; channel < tile.headDim; channel += 2, keys += 2 * kPageTokens) {
    next.step<2>();
    const __m512bh keys0 = loadPairs(keys), keys1 = loadPairs(keys + kPageTokens);
    unroll<R>([&](auto r) {
      const __m512bh pair = broadcastPair(q + static_cast<std::size_t>(r) * tile.stride + channel);
      sums[2 * r] = _mm512_dpbf16_ps(sums[2 * r], keys0, pair);
      sums[2 * r + 1] = _mm512_dpbf16_ps(sums[2 * r + 1], keys1, pair);
    });
  }
  unroll<2 * R>([&](auto i) { _mm512_storeu_ps(scores + first * kPageTokens + i * 16, sums[i]); });
}

// out = out * factor + p v for R queries and C vectors of channels, one token pair after the other.
template <int R, int C>
void addValues(const QueryTile& tile, const bf16* values, const bf16* probabilities, const float* factors,
               int first, int channel, Prefetch& next) {
  __m512 sums[R * C];
  float* out = tile.out + static_cast<std::size_t>(first) * tile.headDim + channel;
  unroll<R>([&](auto r) {
    const __m512 factor = _mm512_set1_ps(factors[first + r]);
    unroll<C>([&](auto c) {
      sums[r * C + c] =
          _mm512_mul_ps(_mm512_loadu_ps(out + static_cast<std::size_t>(r) * tile.headDim + c * 16), factor);
    });
  });
  const bf16* column = values + 2 * channel;
  for (int t = 0; t < kPageTokens; t += 2, column += 2 * tile.headDim) {
    next.step<4>();
    __m512bh v[C];
    unroll<C>([&](auto c) { v[c] = loadPairs(column + c * 32); });
    unroll<R>([&](auto r) {
      const __m512bh pair = broadcastPair(probabilities + (first + r) * kPageTokens + t);
      unroll<C>([&](auto c) { sums[r * C + c] = _mm512_dpbf16_ps(sums[r * C + c], v[c], pair); });
    });
  }
  unroll<R>([&](auto r) {
    unroll<C>([&](auto c) {
      _mm512_storeu_ps(out + static_cast<std::size_t>(r) * tile.headDim + c * 16, sums[r * C + c]);
    });
  });
}

template <int R>
void addAllValues(const QueryTile& tile, const bf16* values, const bf16* probabilities, const float* factors,
                  int first, Prefetch& next) {
  int channel = 0;
  for (; channel + 64 <= tile.headDim; channel += 64) {
    addValues<R, 4>(tile, values, probabilities, factors, first, channel, next);
  }
  switch ((tile.headDim - channel) / 16) {
    case 3:
      return addValues<R, 3>(tile, values, probabilities, factors, first, channel, next);
    case 2:
      return addValues<R, 2>(tile, values, probabilities, factors, first, channel, next);
    case 1:
      return addValues<R, 1>(tile, values, probabilities, factors, first, channel, next);
  }
}

void scoreTile(const QueryTile& tile, const bf16* keys, float* scores, Prefetch& next) {
  int query = 0;
  for (; query + 8 <= tile.queries; query += 8) scoreQueries<8>(tile, keys, query, scores, next);
  const int rest = tile.queries - query;
  if (rest & 4) scoreQueries<4>(tile, keys, query, scores, next), query += 4;
  if (rest & 2) scoreQueries<2>(tile, keys, query, scores, next), query += 2;
  if (rest & 1) scoreQueries<1>(tile, keys, query, scores, next);
}

void attendPage(const QueryTile& tile, const PageTile& page, Prefetch& next) {
  alignas(64) float scores[kTileQueries * kPageTokens];
  alignas(64) bf16 probabilities[kTileQueries * kPageTokens];
  float factors[kTileQueries];
  scoreTile(tile, page.keys, scores, next);
  softmaxPage(tile, page, scores, probabilities, factors);
  int query = 0;
  for (; query + 4 <= tile.queries; query += 4) {
    addAllValues<4>(tile, page.values, probabilities, factors, query, next);
  }
  const int rest = tile.queries - query;
  if (rest & 2) addAllValues<2>(tile, page.values, probabilities, factors, query, next), query += 2;
  if (rest & 1) addAllValues<1>(tile, page.values, probabilities, factors, query, next);
}

}  // namespace

const AttentionKernels kAvx512Attention = {attendPage, expandCodesAvx512};

}  // namespace tandem::cpu
