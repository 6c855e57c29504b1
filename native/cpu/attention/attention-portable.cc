#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>

#include "cpu/attention/kernels.h"
#include "cpu/attention/page-bounds.inl"
#include "cpu/bf16-dots.h"
#include "cpu/exp2.h"

namespace tandem::cpu {
namespace {

float highestOf(const float* scores) {
  constexpr int kLanes = 8;
  float lanes[kLanes];
  std::copy_n(scores, kLanes, lanes);
  for (int first = kLanes; first < kPageTokens; first += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = lanes[lane] < scores[first + lane] ? scores[first + lane] : lanes[lane];
    }
  }
  return *std::max_element(lanes, lanes + kLanes);
}

// Turns a query's dot products with a page's keys into probabilities relative to the new maximum, rounded to
// bf16 as the product with v takes them. The tile's scale makes scores of them, -infinity where the query
// does not see the token.
void weigh(const QueryTile& tile, const PageTile& page, int query, float* scores, bf16* probabilities) {
  const float offset = page.keyOffsets ? page.keyOffsets[query] : 0;
  float scales[kPageTokens];
  std::fill_n(scales, kPageTokens, tile.scale);
  if (page.keyScales) {
    for (int t = 0; t < kPageTokens; ++t) scales[t] *= page.keyScales[t];
  }
  const std::uint32_t visible = page.visible[query];
  for (int t = 0; t < kPageTokens; ++t) {
    const float score = (scores[t] + offset) * scales[t];
    scores[t] = (visible & 1u << t) != 0 ? score : -INFINITY;
  }
  const float highest = std::max(tile.maximum[query], highestOf(scores));
  const float factor = exp2Of(tile.maximum[query] - highest);
  tile.maximum[query] = highest;

  float* sum = tile.sum + query * kSumLanes;
  for (int lane = 0; lane < kSumLanes; ++lane) sum[lane] *= factor;
  for (int t = 0; t < kPageTokens; ++t) scores[t] = exp2Of(scores[t] - highest);
  for (int first = 0; first < kPageTokens; first += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) sum[lane] += scores[first + lane];
  }
  if (!tile.out) return;
  float middle = 0;
  if (page.valueMiddles) {
    for (int t = 0; t < kPageTokens; ++t) middle += scores[t] * page.valueMiddles[t];
  }
  if (page.valueScales) {
    for (int t = 0; t < kPageTokens; ++t) scores[t] *= page.valueScales[t];
  }
  for (int t = 0; t < kPageTokens; ++t) probabilities[t] = toBf16(scores[t]);
  float* out = tile.out + static_cast<std::size_t>(query) * tile.headDim;
  for (int channel = 0; channel < tile.headDim; ++channel) out[channel] = out[channel] * factor + middle;
}

// `queries` that see something of the page.
void attendTogether(const QueryTile& tile, const PageTile& page, std::span<const int> queries) {
  const auto rows = static_cast<int>(queries.size());
  float scores[kDotRows][kPageTokens] = {};
  bf16 probabilities[kDotRows][kPageTokens];
  const bf16 *q[kDotRows] = {}, *weights[kDotRows] = {};
  float *sums[kDotRows] = {}, *out[kDotRows] = {};
  for (int row = 0; row < rows; ++row) {
    q[row] = tile.q + static_cast<std::size_t>(queries[row]) * tile.stride;
    sums[row] = scores[row];
    weights[row] = probabilities[row];
    out[row] = tile.out ? tile.out + static_cast<std::size_t>(queries[row]) * tile.headDim : nullptr;
  }
  addDots(rows, q, page.keys, kPageTokens, tile.headDim, sums);
  for (int row = 0; row < rows; ++row) weigh(tile, page, queries[row], scores[row], probabilities[row]);
  if (tile.out) addDots(rows, weights, page.values, tile.headDim, kPageTokens, out);
}

void attendPage(const QueryTile& tile, const PageTile& page, Prefetch&) {
  int seeing[kTileQueries], count = 0;
  for (int query = 0; query < tile.queries; ++query) {
    if (page.visible[query] != 0) seeing[count++] = query;
  }
  for (int first = 0; first < count; first += kDotRows) {
    attendTogether(tile, page, {seeing + first, static_cast<std::size_t>(std::min(kDotRows, count - first))});
  }
}

// Of a number of 8 bits, as codes are.
bf16 exactBf16(float code) { return static_cast<bf16>(std::bit_cast<std::uint32_t>(code) >> 16); }

void expandCodes(const std::int8_t* codes, bf16* out, std::size_t count, Prefetch&) {
  for (std::size_t i = 0; i < count; ++i) out[i] = exactBf16(static_cast<float>(codes[i]));
}

void unpackCodes(int bits, const std::byte* codes, int headDim, int columns, bf16* out, Prefetch&) {
  const int perWord = 16 / bits, mask = (1 << bits) - 1;
  const float middle = levelOf(bits, 0);
  std::uint16_t words[kPackedVector];
  for (int vector = 0; vector < headDim; ++vector) {
    const int shift = vector % perWord * bits;
    if (shift == 0) std::memcpy(words, codes + vector / perWord * sizeof words, sizeof words);
    const int place = columns == 0 ? vector : vector % 16 * columns + vector / 16;
    bf16* levels = out + place * kPackedVector;
    for (int lane = 0; lane < kPackedVector; ++lane) {
      levels[lane] = exactBf16(static_cast<float>(words[lane] >> shift & mask) + middle);
    }
  }
}

void foldQueries(const QueryFold& fold) {
  constexpr int kLanes = 16;  // which headDim is a multiple of
  float steps[kMaxHeadDim], middles[kMaxHeadDim];
  for (int channel = 0; channel < fold.headDim; ++channel) {
    steps[channel] = toFloat(fold.steps[channel]);
    middles[channel] = toFloat(fold.middles[channel]);
  }
  for (int query = 0; query < fold.queries; ++query) {
    const bf16* q = fold.q + static_cast<std::size_t>(query) * fold.stride;
    bf16* folded = fold.folded + static_cast<std::size_t>(query) * fold.stride;
    float products[kMaxHeadDim], lanes[kLanes] = {};
    for (int channel = 0; channel < fold.headDim; ++channel)
      products[channel] = toFloat(q[channel]) * steps[channel];
    for (int channel = 0; channel < fold.headDim; ++channel) folded[channel] = toBf16(products[channel]);
    std::fill(folded + fold.headDim, folded + fold.stride, bf16{0});
    for (int first = 0; first < fold.headDim; first += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane)
        lanes[lane] += toFloat(q[first + lane]) * middles[first + lane];
    }
    fold.offsets[query] = std::accumulate(lanes, lanes + kLanes, 0.0f);
  }
}

}  // namespace

const AttentionKernels kPortableAttention = {.attendPage = attendPage,
                                             .boundPage = boundPage,
                                             .expandCodes = expandCodes,
                                             .unpackCodes = unpackCodes,
                                             .foldQueries = foldQueries};

}  // namespace tandem::cpu
