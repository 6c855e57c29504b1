// Attention to exact pages: `Pairs` of the including file says in which form queries, probabilities and
// elements are multiplied. In an unnamed namespace, so that no code for one processor is linked into
// another's.

#include <immintrin.h>

#include "cpu/attention/kernels.h"
#include "cpu/attention/softmax-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// A page's keys and values, vector by vector. Keys come eight vectors at a time, four channel pairs of 32
// tokens; values by 16 channels and half a page, eight token pairs.
class Elements {
 public:
  explicit Elements(const QueryTile& tile, const PageTile& page)
      : keys_(page.keys), values_(page.values), headDim_(tile.headDim) {}

  template <int I>
  [[gnu::always_inline]] Pairs::Elements key(int eight) const {
    return Pairs::load(keys_ + (eight * 8 + I) * kPackedVector);
  }
  template <int I>
  [[gnu::always_inline]] Pairs::Elements value(int column, int half) const {
    return Pairs::load(values_ + (half * 8 + I) * 2 * headDim_ + column * kPackedVector);
  }

 private:
  const bf16* keys_;
  const bf16* values_;
  int headDim_;
};

// q kt of R queries: 16 tokens a vector, one channel pair after the other.
template <int R>
void scoreQueries(const QueryTile& tile, const Pairs::Queries& queries, const Elements& page, int first,
                  float* scores, Prefetch& next) {
  __m512 sums[2 * R];
  unroll<2 * R>([&](auto i) { sums[i] = _mm512_setzero_ps(); });
  const Pairs::Factor* q = queries.row(first);
  for (int eight = 0; eight < tile.headDim / 8; ++eight, q += 8) {
    unroll<4>([&](auto pair) {
      next.step<2>();
      const Pairs::Elements keys0 = page.key<2 * pair>(eight), keys1 = page.key<2 * pair + 1>(eight);
      unroll<R>([&](auto r) {
        const Pairs::Two two = Pairs::broadcast(q + queries.stride() * r + 2 * pair);
        sums[2 * r] = Pairs::multiplyAdd(sums[2 * r], keys0, two);
        sums[2 * r + 1] = Pairs::multiplyAdd(sums[2 * r + 1], keys1, two);
      });
    });
  }
  unroll<2 * R>([&](auto i) { _mm512_storeu_ps(scores + first * kPageTokens + i * 16, sums[i]); });
}

// What a tile's values are weighted by, and what becomes of their sums so far.
struct Weights {
  alignas(64) Pairs::Factor probabilities[kTileQueries * kPageTokens];
  float factors[kTileQueries], offsets[kTileQueries];

  [[gnu::always_inline]] void set(int query, __m512 p0, __m512 p1) {
    Pairs::store(probabilities + query * kPageTokens, p0, p1);
  }
};

// out = out * factor + offset + p v for R queries and C vectors of channels, one token pair after the other.
template <int R, int C>
void addValues(const QueryTile& tile, const Elements& page, const Weights& weights, int first, int channel,
               Prefetch& next) {
  __m512 sums[R * C];
  float* out = tile.out + static_cast<std::size_t>(first) * tile.headDim + channel;
  unroll<R>([&](auto r) {
    const __m512 factor = _mm512_set1_ps(weights.factors[first + r]);
    const __m512 offset = _mm512_set1_ps(weights.offsets[first + r]);
    unroll<C>([&](auto c) {
      sums[r * C + c] = _mm512_fmadd_ps(
          _mm512_loadu_ps(out + static_cast<std::size_t>(r) * tile.headDim + c * 16), factor, offset);
    });
  });
  const Pairs::Factor* p = weights.probabilities + first * kPageTokens;
  for (int half = 0; half < 2; ++half, p += kPageTokens / 2) {
    unroll<8>([&](auto pair) {
      next.step<4>();
      Pairs::Elements v[C];
      unroll<C>([&](auto c) { v[c] = page.value<pair>(channel / 16 + c, half); });
      unroll<R>([&](auto r) {
        const Pairs::Two two = Pairs::broadcast(p + r * kPageTokens + 2 * pair);
        unroll<C>([&](auto c) { sums[r * C + c] = Pairs::multiplyAdd(sums[r * C + c], v[c], two); });
      });
    });
  }
  unroll<R>([&](auto r) {
    unroll<C>([&](auto c) {
      _mm512_storeu_ps(out + static_cast<std::size_t>(r) * tile.headDim + c * 16, sums[r * C + c]);
    });
  });
}

void attendPage(const QueryTile& tile, const PageTile& pageTile, Prefetch& next) {
  alignas(64) float scores[kTileQueries * kPageTokens];
  Weights weights;
  const Elements page(tile, pageTile);
  const Pairs::Queries queries(tile);
  byGroups<8>(tile.queries,
              [&](auto r, int first) { scoreQueries<r>(tile, queries, page, first, scores, next); });
  softmaxPage(tile, pageTile, scores, weights);
  if (!tile.out) return;
  byGroups<4>(tile.queries, [&](auto r, int first) {
    byGroups<4>(tile.headDim / 16,
                [&](auto c, int column) { addValues<r, c>(tile, page, weights, first, column * 16, next); });
  });
}

}  // namespace
}  // namespace tandem::cpu
