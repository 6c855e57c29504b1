// Attention to int8 pages in vectors of 256 bits: `multiplyAdd` of the including file adds the products of
// pairs of int16 to sums in int32. They are exact, so how queries, channels and tokens are grouped changes no
// bit. Everything is in an unnamed namespace and nothing from elsewhere is called but what is always inlined,
// so that no code for one processor is linked into another's.

#include <immintrin.h>

#include "cpu/attention/int8-attention-avx2.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// Codes of a vector: 8 pairs.
constexpr int kVectorCodes = 16;

// A vector of codes as int16. Writing them down so for the other tiles of a block does not pay: four queries
// share what is widened once, and twice the bytes would be loaded.
[[gnu::always_inline]] inline __m256i widen(const std::byte* codes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}

// Enough that a sum need not wait for its last product, where there are registers for it.
constexpr int chainsOf(int sums) { return sums >= 8 ? 1 : 8 / sums; }

// As many lines of the next page as V vectors of codes fill, of which four pairs follow each other.
template <int V, int Pair>
[[gnu::always_inline]] inline void fetchBeside(Prefetch& next) {
  if constexpr (V >= 4) {
    next.step<V / 4>();
  } else if constexpr (Pair % (4 / V) == 0) {
    next.step<1>();
  }
}

// q kt of R queries and V vectors of 8 tokens, one channel pair after the other.
template <int R, int V>
void scoreQueries(const QueryTile& tile, const std::byte* keys, int first, int token, std::int32_t* scores,
                  Prefetch& next) {
  constexpr int kSums = R * V, kChains = chainsOf(kSums);
  __m256i sums[kChains * kSums];
  unroll<kChains * kSums>([&](auto i) { sums[i] = _mm256_setzero_si256(); });
  const std::int16_t* q = tile.numbers + first * kNumbersStride;
  keys += 2 * token;
  for (int channel = 0; channel < tile.headDim; channel += 8, q += 8, keys += 8 * kPageTokens) {
    unroll<4>([&](auto pair) {
      fetchBeside<V, pair>(next);
      __m256i k[V];
      unroll<V>([&](auto v) { k[v] = widen(keys + pair * 2 * kPageTokens + v * kVectorCodes); });
      unroll<R>([&](auto r) {
        const __m256i two = broadcastFour(q + r * kNumbersStride + 2 * pair);
        unroll<V>([&](auto v) {
          constexpr int kSum = pair % kChains * kSums + r * V + v;
          sums[kSum] = multiplyAdd(sums[kSum], k[v], two);
        });
      });
    });
  }
  unroll<R>([&](auto r) {
    unroll<V>([&](auto v) {
      constexpr int kSum = r * V + v;
      unroll<kChains - 1>(
          [&](auto c) { sums[kSum] = _mm256_add_epi32(sums[kSum], sums[(c + 1) * kSums + kSum]); });
      auto* to = reinterpret_cast<__m256i*>(scores + (first + r) * kPageTokens + token + v * 8);
      _mm256_storeu_si256(to, sums[kSum]);
    });
  });
}

// out = out * factor + unit * (p v) for R queries and C vectors of 8 channels, one token pair after the
// other.
template <int R, int C>
void addValues(const QueryTile& tile, const std::byte* values, const WholeWeights& weights, int first,
               int channel, Prefetch& next) {
  constexpr int kSums = R * C, kChains = chainsOf(kSums);
  __m256i sums[kChains * kSums];
  unroll<kChains * kSums>([&](auto i) { sums[i] = _mm256_setzero_si256(); });
  const std::int16_t* p = weights.numbers + first * kPageTokens;
  values += 2 * channel;
  for (int token = 0; token < kPageTokens; token += 8, p += 8) {
    unroll<4>([&](auto pair) {
      fetchBeside<C, pair>(next);
      __m256i v[C];
      unroll<C>([&](auto c) { v[c] = widen(values + c * kVectorCodes); });
      values += 2 * tile.headDim;
      unroll<R>([&](auto r) {
        const __m256i two = broadcastFour(p + r * kPageTokens + 2 * pair);
        unroll<C>([&](auto c) {
          constexpr int kSum = pair % kChains * kSums + r * C + c;
          sums[kSum] = multiplyAdd(sums[kSum], v[c], two);
        });
      });
    });
  }
  unroll<R>([&](auto r) {
    const __m256 factor = _mm256_set1_ps(weights.factors[first + r]);
    const __m256 unit = _mm256_set1_ps(weights.units[first + r]);
    float* out = tile.out + static_cast<std::size_t>(first + r) * tile.headDim + channel;
    unroll<C>([&](auto c) {
      constexpr int kSum = r * C + c;
      unroll<kChains - 1>(
          [&](auto i) { sums[kSum] = _mm256_add_epi32(sums[kSum], sums[(i + 1) * kSums + kSum]); });
      const __m256 before = _mm256_mul_ps(_mm256_loadu_ps(out + c * 8), factor);
      _mm256_storeu_ps(out + c * 8, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[kSum]), unit, before));
    });
  });
}

// Eight sums a group, beside which all that they need stays in 16 registers: of four queries with two
// vectors, so that a vector is widened for four products, and of fewer with more.
void attendInt8(const QueryTile& tile, const PageCodes& page, Prefetch& next) {
  alignas(32) std::int32_t scores[kTileQueries * kPageTokens];
  WholeWeights weights;
  byGroups<4>(tile.queries, [&](auto r, int first) {
    constexpr int kVectors = r == 4 ? 2 : 4;
    for (int token = 0; token < kPageTokens; token += kVectors * 8) {
      scoreQueries<r, kVectors>(tile, page.keys, first, token, scores, next);
    }
  });
  softmaxInt8Avx2(tile, page, scores, weights);
  if (!tile.out) return;
  byGroups<4>(tile.queries, [&](auto r, int first) {
    byGroups<4 / r>(tile.headDim / 16, [&](auto c, int column) {
      addValues<r, 2 * c>(tile, page.values, weights, first, column * 16, next);
    });
  });
  next.step<4>();  // scales
}

}  // namespace
}  // namespace tandem::cpu
