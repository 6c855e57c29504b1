#include "cpu/attention/int8-attention-avx512.h"

#include <immintrin.h>

#include "cpu/attention/int8-softmax-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// A page's keys and values as vectors of int16. Keys come eight vectors at a time, four channel pairs of
// twice 16 tokens; values by 16 channels and half a page, eight token pairs.
class Int8Codes {
 public:
  Int8Codes(const QueryTile& tile, const PageCodes& page)
      : keys_(page.keys), values_(page.values), headDim_(tile.headDim) {}

  template <int I>
  [[gnu::always_inline]] __m512i key(int eight) const {
    return widen(keys_ + (eight * 8 + I) * kPackedVector);
  }
  template <int I>
  [[gnu::always_inline]] __m512i value(int column, int half) const {
    return widen(values_ + (half * 8 + I) * 2 * headDim_ + column * kPackedVector);
  }

 private:
  [[gnu::always_inline]] static __m512i widen(const std::byte* codes) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
  }

  const std::byte* keys_;
  const std::byte* values_;
  int headDim_;
};

// Codes that were written down as int16.
class Unpacked {
 public:
  Unpacked(const std::int16_t* elements, int headDim)
      : keys_(elements), values_(elements + headDim * kPageTokens) {}

  static void write(const Int8Codes& page, int headDim, std::int16_t* elements) {
    for (int eight = 0; eight < headDim / 8; ++eight) {
      unroll<8>([&](auto i) {
        _mm512_storeu_si512(elements, page.key<i>(eight));
        elements += kPackedVector;
      });
    }
    for (int column = 0; column < headDim / 16; ++column) {
      for (int half = 0; half < 2; ++half) {
        unroll<8>([&](auto i) {
          _mm512_storeu_si512(elements, page.value<i>(column, half));
          elements += kPackedVector;
        });
      }
    }
  }

  template <int I>
  [[gnu::always_inline]] __m512i key(int eight) const {
    return _mm512_loadu_si512(keys_ + (eight * 8 + I) * kPackedVector);
  }
  template <int I>
  [[gnu::always_inline]] __m512i value(int column, int half) const {
    return _mm512_loadu_si512(values_ + ((column * 2 + half) * 8 + I) * kPackedVector);
  }

 private:
  const std::int16_t* keys_;
  const std::int16_t* values_;
};

// q kt of R queries: 16 tokens a vector, one channel pair after the other; few queries in several sums each,
// since one product waits for another.
template <int R, class Page>
void scoreQueries(const QueryTile& tile, const Page& page, int first, std::int32_t* scores, Prefetch& next) {
  constexpr int kChains = R >= 8 ? 1 : R >= 4 ? 2 : 4;
  __m512i sums[kChains * 2 * R];
  unroll<kChains * 2 * R>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  const std::int16_t* q = tile.numbers + first * kNumbersStride;
  for (int eight = 0; eight < tile.headDim / 8; ++eight, q += 8) {
    unroll<4>([&](auto pair) {
      next.step<1>();
      const __m512i keys0 = page.template key<2 * pair>(eight),
                    keys1 = page.template key<2 * pair + 1>(eight);
      unroll<R>([&](auto r) {
        constexpr int kSum = pair % kChains * 2 * R + 2 * r;
        const __m512i two = broadcastFour(q + r * kNumbersStride + 2 * pair);
        sums[kSum] = _mm512_dpwssd_epi32(sums[kSum], keys0, two);
        sums[kSum + 1] = _mm512_dpwssd_epi32(sums[kSum + 1], keys1, two);
      });
    });
  }
  unroll<2 * R>([&](auto i) {
    unroll<kChains - 1>(
        [&](auto chain) { sums[i] = _mm512_add_epi32(sums[i], sums[(chain + 1) * 2 * R + i]); });
    _mm512_storeu_si512(scores + first * kPageTokens + i * 16, sums[i]);
  });
}

// out = out * factor + unit * (p v) for R queries and C vectors of channels, one token pair after
// the other.
template <int R, int C, class Page>
void addValues(const QueryTile& tile, const Page& page, const Int8Weights& weights, int first, int channel,
               Prefetch& next) {
  constexpr int kChains = R * C >= 16 ? 1 : 2;
  __m512i sums[kChains * R * C];
  unroll<kChains * R * C>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  const std::int16_t* p = weights.numbers + first * kPageTokens;
  for (int half = 0; half < 2; ++half) {
    unroll<8>([&](auto pair) {
      next.step<3>();
      __m512i v[C];
      unroll<C>([&](auto c) { v[c] = page.template value<pair>(channel / 16 + c, half); });
      unroll<R>([&](auto r) {
        const __m512i two = broadcastFour(p + r * kPageTokens + placeOfPair(half, pair));
        unroll<C>([&](auto c) {
          constexpr int kSum = pair % kChains * R * C + r * C + c;
          sums[kSum] = _mm512_dpwssd_epi32(sums[kSum], v[c], two);
        });
      });
    });
  }
  unroll<R>([&](auto r) {
    const __m512 factor = _mm512_set1_ps(weights.factors[first + r]);
    const __m512 unit = _mm512_set1_ps(weights.units[first + r]);
    float* out = tile.out + static_cast<std::size_t>(first + r) * tile.headDim + channel;
    unroll<C>([&](auto c) {
      __m512i sum = sums[r * C + c];
      if constexpr (kChains == 2) sum = _mm512_add_epi32(sum, sums[R * C + r * C + c]);
      const __m512 before = _mm512_mul_ps(_mm512_loadu_ps(out + c * 16), factor);
      _mm512_storeu_ps(out + c * 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), unit, before));
    });
  });
}

TokenScales tokenScales(const std::byte* scales, float factor) {
  const auto* floats = reinterpret_cast<const float*>(scales);
  return {_mm512_mul_ps(_mm512_loadu_ps(floats), _mm512_set1_ps(factor)),
          _mm512_mul_ps(_mm512_loadu_ps(floats + 16), _mm512_set1_ps(factor))};
}

void softmaxTile(const QueryTile& tile, const PageCodes& codes, const std::int32_t* scores,
                 Int8Weights& weights) {
  const TokenScales keys = tokenScales(codes.keyScales, tile.scale),
                    values = tokenScales(codes.valueScales, 1);
  const ProbabilityNumbers whole = probabilityNumbers(values, 0xffffffffu);
  int query = 0;
  for (; query + 4 <= tile.queries; query += 4) {
    int8Softmax<4>(tile, codes.visible, scores, keys, values, whole, query, weights);
  }
  for (; query < tile.queries; ++query) {
    int8Softmax<1>(tile, codes.visible, scores, keys, values, whole, query, weights);
  }
}

template <class Page>
void attend(const QueryTile& tile, const Page& page, const PageCodes& codes, Prefetch& next) {
  alignas(64) std::int32_t scores[kTileQueries * kPageTokens];
  Int8Weights weights;
  byGroups<8>(tile.queries, [&](auto r, int first) { scoreQueries<r>(tile, page, first, scores, next); });
  softmaxTile(tile, codes, scores, weights);
  if (!tile.out) return;
  byGroups<8>(tile.queries, [&](auto r, int first) {
    // As many sums as there are registers.
    constexpr int kColumns = r == 8 ? 2 : 4;
    byGroups<kColumns>(tile.headDim / 16, [&](auto c, int column) {
      addValues<r, c>(tile, page, weights, first, column * 16, next);
    });
  });
}

}  // namespace

void attendInt8Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const PageCodes& codes = pages[i];
    const Int8Codes page(tile, codes);
    if (!codes.unpacked) {
      attend(tile, page, codes, next[i]);
      continue;
    }
    if (!codes.isUnpacked) Unpacked::write(page, tile.headDim, codes.unpacked);
    attend(tile, Unpacked(codes.unpacked, tile.headDim), codes, next[i]);
  }
}

}  // namespace tandem::cpu
