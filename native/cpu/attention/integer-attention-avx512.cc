#include "cpu/attention/integer-attention-avx512.h"

#include <immintrin.h>

#include <cstring>

#include "cpu/attention/integer-softmax-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// Two neighbouring numbers in every lane.
[[gnu::always_inline]] inline __m512i broadcastPair(const std::int16_t* pair) {
  std::int32_t bits;
  std::memcpy(&bits, pair, sizeof bits);
  return _mm512_set1_epi32(bits);
}

// A page's keys and values as vectors of int16. Keys come eight vectors at a time, four channel pairs of
// twice 16 tokens; values by 16 channels and half a page, eight token pairs. Some are left kLift times too
// large, where a shift is spared so.
class Int8Codes {
 public:
  static constexpr bool kPacked = false;
  static constexpr int kKeyLift = 1;    // of tokens 16..31
  static constexpr int kValueLift = 1;  // of every other token pair
  static constexpr float kLevel = 0;

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

template <int Bits>
class PackedCodes {
 public:
  static constexpr bool kPacked = true;
  static constexpr int kKeyLift = 1 << Bits;
  // A lift takes its bits from the probabilities: two are no loss, four would be.
  static constexpr int kValueLift = Bits == 2 ? 1 << Bits : 1;
  static constexpr float kLevel = levelOf(Bits, (1 << Bits) - 1);

  PackedCodes(const QueryTile&, const PageCodes& page) : keys_(page.keys), values_(page.values) {}

  template <int I>
  [[gnu::always_inline]] __m512i key(int eight) const {
    return vector<I, kKeyLift>(keys_ + eight * kEightBytes);
  }
  template <int I>
  [[gnu::always_inline]] __m512i value(int column, int half) const {
    return vector<I, kValueLift>(values_ + (column * 2 + half) * kEightBytes);
  }

 private:
  static constexpr int kPerWord = 16 / Bits;
  static constexpr int kEightBytes = 8 / kPerWord * 64;
  static constexpr int kMask = (1 << Bits) - 1;

  // Odd vectors are lifted.
  template <int I, int Lift>
  [[gnu::always_inline]] static __m512i vector(const std::byte* codes) {
    constexpr bool kLifted = Lift > 1 && I % 2 == 1;
    constexpr int kPlace = I % kPerWord, kShift = (kLifted ? kPlace - 1 : kPlace) * Bits;
    const __m512i words = _mm512_srli_epi16(_mm512_loadu_si512(codes + I / kPerWord * 64), kShift);
    if constexpr (kShift == 16 - Bits) return words;
    return _mm512_and_si512(words, _mm512_set1_epi16(kLifted ? kMask << Bits : kMask));
  }

  const std::byte* keys_;
  const std::byte* values_;
};

// Codes that were written down one by one, as their class left them.
class Unpacked {
 public:
  Unpacked(const std::int16_t* elements, int headDim)
      : keys_(elements), values_(elements + headDim * kPageTokens) {}

  template <class Page>
  static void write(const Page& page, int headDim, std::int16_t* elements) {
    for (int eight = 0; eight < headDim / 8; ++eight) {
      unroll<8>([&](auto i) {
        _mm512_storeu_si512(elements, page.template key<i>(eight));
        elements += kPackedVector;
      });
    }
    for (int column = 0; column < headDim / 16; ++column) {
      for (int half = 0; half < 2; ++half) {
        unroll<8>([&](auto i) {
          _mm512_storeu_si512(elements, page.template value<i>(column, half));
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
void scoreQueries(const QueryTile& tile, const Page& page, const std::int16_t* numbers, int first,
                  std::int32_t* scores, Prefetch& next) {
  constexpr int kChains = R >= 8 ? 1 : R >= 4 ? 2 : 4;
  __m512i sums[kChains * 2 * R];
  unroll<kChains * 2 * R>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  const std::int16_t* q = numbers + first * kNumbersStride;
  for (int eight = 0; eight < tile.headDim / 8; ++eight, q += 8) {
    unroll<4>([&](auto pair) {
      next.step<2>();
      const __m512i keys0 = page.template key<2 * pair>(eight),
                    keys1 = page.template key<2 * pair + 1>(eight);
      unroll<R>([&](auto r) {
        constexpr int kSum = pair % kChains * 2 * R + 2 * r;
        const __m512i two = broadcastPair(q + r * kNumbersStride + 2 * pair);
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

// out = out * factor + offset + unit * (p v) for R queries and C vectors of channels, one token pair after
// the other.
template <int R, int C, class Page>
void addValues(const QueryTile& tile, const Page& page, const IntegerWeights& weights, int first, int channel,
               Prefetch& next) {
  constexpr int kChains = R * C >= 16 ? 1 : 2;
  __m512i sums[kChains * R * C];
  unroll<kChains * R * C>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  const std::int16_t* p = weights.numbers + first * kPageTokens;
  for (int half = 0; half < 2; ++half) {
    unroll<8>([&](auto pair) {
      next.step<4>();
      __m512i v[C];
      unroll<C>([&](auto c) { v[c] = page.template value<pair>(channel / 16 + c, half); });
      unroll<R>([&](auto r) {
        const __m512i two = broadcastPair(p + r * kPageTokens + placeOfPair(half, pair));
        unroll<C>([&](auto c) {
          constexpr int kSum = pair % kChains * R * C + r * C + c;
          sums[kSum] = _mm512_dpwssd_epi32(sums[kSum], v[c], two);
        });
      });
    });
  }
  unroll<R>([&](auto r) {
    const __m512 factor = _mm512_set1_ps(weights.factors[first + r]);
    const __m512 offset = _mm512_set1_ps(weights.offsets[first + r]);
    const __m512 unit = _mm512_set1_ps(weights.units[first + r]);
    float* out = tile.out + static_cast<std::size_t>(first + r) * tile.headDim + channel;
    unroll<C>([&](auto c) {
      __m512i sum = sums[r * C + c];
      if constexpr (kChains == 2) sum = _mm512_add_epi32(sum, sums[R * C + r * C + c]);
      const __m512 before = _mm512_fmadd_ps(_mm512_loadu_ps(out + c * 16), factor, offset);
      _mm512_storeu_ps(out + c * 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), unit, before));
    });
  });
}

// For R queries; C vectors of channels together.
template <int R, int C, class Page>
void addAllValues(const QueryTile& tile, const Page& page, const IntegerWeights& weights, int first,
                  Prefetch& next) {
  int channel = 0;
  for (; channel + C * 16 <= tile.headDim; channel += C * 16) {
    addValues<R, C>(tile, page, weights, first, channel, next);
  }
  const int rest = tile.headDim - channel;
  if constexpr (C > 2) {
    if (rest & 32) addValues<R, 2>(tile, page, weights, first, channel, next), channel += 32;
  }
  if (rest & 16) addValues<R, 1>(tile, page, weights, first, channel, next);
}

template <class Page>
void scoreTile(const QueryTile& tile, const Page& page, const std::int16_t* numbers, std::int32_t* scores,
               Prefetch& next) {
  int query = 0;
  for (; query + 8 <= tile.queries; query += 8) scoreQueries<8>(tile, page, numbers, query, scores, next);
  const int rest = tile.queries - query;
  if (rest & 4) scoreQueries<4>(tile, page, numbers, query, scores, next), query += 4;
  if (rest & 2) scoreQueries<2>(tile, page, numbers, query, scores, next), query += 2;
  if (rest & 1) scoreQueries<1>(tile, page, numbers, query, scores, next);
}

// The scales of a packed page's keys are per channel, so they meet the queries: folded = q * steps, in whole
// numbers again, and offsets = q . middles less what codes are above zero.
template <int R>
void foldQueries(const QueryTile& tile, const std::int16_t* steps, const bf16* middles, float unit,
                 float level, int first, std::int16_t* folded, float* offsets) {
  const __m512i ones = _mm512_set1_epi16(1);
  __m512i sums[R];
  __m512 four[4];
  unroll<R>([&](auto r) { sums[r] = _mm512_setzero_si512(); });
  unroll<4>([&](auto r) { four[r] = _mm512_setzero_ps(); });
  const bf16* q = tile.q + static_cast<std::size_t>(first) * tile.stride;
  for (int channel = 0; channel < tile.stride; channel += 32) {
    const __mmask32 here = tile.headDim - channel >= 32 ? 0xffffffffu : 0xffffu;
    const __m512i step = _mm512_maskz_loadu_epi16(here, steps + channel);
    const auto middle = (__m512bh)_mm512_maskz_loadu_epi16(here, middles + channel);
    unroll<R>([&](auto r) {
      const int place = (first + r) * kNumbersStride + channel;
      const __m512i numbers = _mm512_mulhrs_epi16(_mm512_loadu_si512(tile.numbers + place), step);
      _mm512_storeu_si512(folded + place, numbers);
      sums[r] = _mm512_dpwssd_epi32(sums[r], numbers, ones);
      four[r] =
          _mm512_dpbf16_ps(four[r], (__m512bh)_mm512_loadu_si512(q + r * tile.stride + channel), middle);
    });
  }
  unroll<R>([&](auto r) {
    const __m512 above = _mm512_set1_ps(level * (tile.units[first + r] * unit));
    four[r] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sums[r]), above, four[r]);
  });
  const __m128 all = reduceFour(four, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  _mm_mask_storeu_ps(offsets + first, static_cast<__mmask8>((1 << R) - 1),
                     _mm_mul_ps(all, _mm_set1_ps(tile.scale)));
}

// What the queries meet a page's keys with, and what their scores stand for. folded: of packed classes
template <class Page>
const std::int16_t* prepareScores(const QueryTile& tile, const PageCodes& codes, std::int16_t* folded,
                                  ScoreUnits& units) {
  for (int query = 0; query < tile.queries; ++query) units.queries[query] = tile.units[query];
  if constexpr (!Page::kPacked) {
    const auto* scales = reinterpret_cast<const float*>(codes.keyScales);
    units.low = _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_set1_ps(tile.scale));
    units.high = _mm512_mul_ps(_mm512_loadu_ps(scales + 16), _mm512_set1_ps(tile.scale));
    for (int query = 0; query < tile.queries; ++query) units.offsets[query] = 0;
    return tile.numbers;
  }
  const auto* steps = reinterpret_cast<const bf16*>(codes.keyScales);
  const bf16* middles = steps + tile.headDim;
  alignas(64) std::int16_t stepNumbers[kNumbersStride];
  const float largest = largestOf(steps, tile.headDim);
  toNumbers(steps, tile.headDim, numbersPer(largest), stepNumbers);
  // A product of two numbers loses its last 15 bits.
  const float unit = largest / kTopNumber * 32768;
  int query = 0;
  for (; query + 4 <= tile.queries; query += 4) {
    foldQueries<4>(tile, stepNumbers, middles, unit, Page::kLevel, query, folded, units.offsets);
  }
  for (; query < tile.queries; ++query) {
    foldQueries<1>(tile, stepNumbers, middles, unit, Page::kLevel, query, folded, units.offsets);
  }
  units.low = _mm512_set1_ps(tile.scale * unit);
  units.high = _mm512_set1_ps(tile.scale * unit / Page::kKeyLift);
  return folded;
}

template <class Page>
ValueScales valueScales(const PageCodes& codes) {
  ValueScales values;
  values.lifts = _mm512_mask_mov_ps(_mm512_set1_ps(1), 0xcccc, _mm512_set1_ps(Page::kValueLift));
  values.level = Page::kLevel;
  if constexpr (Page::kPacked) {
    const auto* scales = reinterpret_cast<const __m256i*>(codes.valueScales);
    values.low = widened(_mm256_loadu_si256(scales));
    values.high = widened(_mm256_loadu_si256(scales + 1));
    values.lowMiddles = widened(_mm256_loadu_si256(scales + 2));
    values.highMiddles = widened(_mm256_loadu_si256(scales + 3));
  } else {
    const auto* scales = reinterpret_cast<const float*>(codes.valueScales);
    values.low = _mm512_loadu_ps(scales);
    values.high = _mm512_loadu_ps(scales + 16);
  }
  return values;
}

template <class Page>
void softmaxTile(const QueryTile& tile, const PageCodes& codes, const std::int32_t* scores,
                 const ScoreUnits& units, IntegerWeights& weights) {
  const ValueScales values = valueScales<Page>(codes);
  const ProbabilityNumbers whole = probabilityNumbers(values, 0xffffffffu);
  int query = 0;
  for (; query + 4 <= tile.queries; query += 4) {
    integerSoftmax<4, Page::kPacked>(tile, codes.visible, scores, units, values, whole, query, weights);
  }
  for (; query < tile.queries; ++query) {
    integerSoftmax<1, Page::kPacked>(tile, codes.visible, scores, units, values, whole, query, weights);
  }
}

template <class Page>
void addTile(const QueryTile& tile, const Page& page, const IntegerWeights& weights, Prefetch& next) {
  int query = 0;
  for (; query + 8 <= tile.queries; query += 8) addAllValues<8, 2>(tile, page, weights, query, next);
  const int rest = tile.queries - query;
  if (rest & 4) addAllValues<4, 4>(tile, page, weights, query, next), query += 4;
  if (rest & 2) addAllValues<2, 4>(tile, page, weights, query, next), query += 2;
  if (rest & 1) addAllValues<1, 4>(tile, page, weights, query, next);
}

// A page of which several tiles follow each other.
template <class Page>
void attendUnpacked(const QueryTile& tile, const PageCodes& codes, Prefetch& next) {
  alignas(64) std::int16_t folded[kTileQueries * kNumbersStride];
  alignas(64) std::int32_t scores[kTileQueries * kPageTokens];
  ScoreUnits units;
  IntegerWeights weights;
  if (!codes.isUnpacked) Unpacked::write(Page(tile, codes), tile.headDim, codes.unpacked);
  const Unpacked page(codes.unpacked, tile.headDim);
  scoreTile(tile, page, prepareScores<Page>(tile, codes, folded, units), scores, next);
  softmaxTile<Page>(tile, codes, scores, units, weights);
  if (tile.out) addTile(tile, page, weights, next);
}

template <class Page>
void attend(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  if (pages[0].unpacked) {
    attendUnpacked<Page>(tile, pages[0], next[0]);
    return;
  }
  alignas(64) std::int16_t folded[kPagesTogether][kTileQueries * kNumbersStride];
  alignas(64) std::int32_t scores[kPagesTogether][kTileQueries * kPageTokens];
  const std::int16_t* numbers[kPagesTogether];
  ScoreUnits units[kPagesTogether];
  IntegerWeights weights[kPagesTogether];
  const int count = static_cast<int>(pages.size());
  for (int i = 0; i < count; ++i) numbers[i] = prepareScores<Page>(tile, pages[i], folded[i], units[i]);
  for (int i = 0; i < count; ++i) {
    scoreTile(tile, Page(tile, pages[i]), numbers[i], scores[i], next[i]);
  }
  for (int i = 0; i < count; ++i) softmaxTile<Page>(tile, pages[i], scores[i], units[i], weights[i]);
  if (!tile.out) return;
  for (int i = 0; i < count; ++i) addTile(tile, Page(tile, pages[i]), weights[i], next[i]);
}

}  // namespace

void quantizeQueriesAvx512(const QueryNumbers& queries) {
  for (int query = 0; query < queries.queries; ++query) {
    const std::size_t row = static_cast<std::size_t>(query) * queries.stride;
    const float largest = largestOf(queries.q + row, queries.stride);
    toNumbers(queries.q + row, queries.stride, numbersPer(largest), queries.numbers + query * kNumbersStride);
    queries.units[query] = largest / kTopNumber;
  }
}

void attendInt8Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attend<Int8Codes>(tile, pages, next);
}
void attendInt4Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attend<PackedCodes<4>>(tile, pages, next);
}
void attendInt2Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attend<PackedCodes<2>>(tile, pages, next);
}

}  // namespace tandem::cpu
