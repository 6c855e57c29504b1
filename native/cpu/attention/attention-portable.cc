#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/attention/kernels.h"
#include "cpu/attention/page-bounds.inl"

namespace tandem::cpu {
namespace {

// Scores of one query against a page, times the tile's scale; -infinity where the query does not see the
// token.
void score(const QueryTile& tile, const PageTile& page, int query, float* scores) {
  const bf16* q = tile.q + static_cast<std::size_t>(query) * tile.stride;
  std::fill_n(scores, kPageTokens, 0.0f);
  for (int channel = 0; channel < tile.headDim; channel += 2) {
    const float even = toFloat(q[channel]), odd = toFloat(q[channel + 1]);
    const bf16* keys = page.keys + PageFormat::keyIndex(0, channel);
    for (int t = 0; t < kPageTokens; ++t) {
      scores[t] = scores[t] + even * toFloat(keys[2 * t]) + odd * toFloat(keys[2 * t + 1]);
    }
  }
  for (int t = 0; t < kPageTokens; ++t) {
    if (page.keyOffsets) scores[t] += page.keyOffsets[query];
    scores[t] *= page.keyScales ? tile.scale * page.keyScales[t] : tile.scale;
    if (!(page.visible[query] >> t & 1u)) scores[t] = -INFINITY;
  }
}

// Turns scores into probabilities relative to the new maximum, rounded to bf16 as the product with v takes
// them.
void weigh(const QueryTile& tile, const PageTile& page, int query, const float* scores,
           float* probabilities) {
  float highest = tile.maximum[query];
  for (int t = 0; t < kPageTokens; ++t) highest = std::max(highest, scores[t]);
  const float factor = std::exp2(tile.maximum[query] - highest);
  tile.maximum[query] = highest;

  float* sum = tile.sum + query * kSumLanes;
  for (int lane = 0; lane < kSumLanes; ++lane) sum[lane] *= factor;
  float offset = 0;
  for (int t = 0; t < kPageTokens; ++t) {
    const float probability = std::exp2(scores[t] - highest);
    sum[t % kSumLanes] += probability;
    if (page.valueMiddles) offset += probability * page.valueMiddles[t];
    probabilities[t] = toFloat(toBf16(page.valueScales ? probability * page.valueScales[t] : probability));
  }
  if (!tile.out) return;
  float* out = tile.out + static_cast<std::size_t>(query) * tile.headDim;
  for (int channel = 0; channel < tile.headDim; ++channel) out[channel] = out[channel] * factor + offset;
}

void addValues(const QueryTile& tile, const PageTile& page, int query, const float* probabilities) {
  float* out = tile.out + static_cast<std::size_t>(query) * tile.headDim;
  for (int t = 0; t < kPageTokens; t += 2) {
    const bf16* values = page.values + static_cast<std::size_t>(t) * tile.headDim;
    for (int channel = 0; channel < tile.headDim; ++channel) {
      out[channel] = out[channel] + probabilities[t] * toFloat(values[2 * channel]) +
                     probabilities[t + 1] * toFloat(values[2 * channel + 1]);
    }
  }
}

void attendPage(const QueryTile& tile, const PageTile& page, Prefetch&) {
  float scores[kPageTokens], probabilities[kPageTokens];
  for (int query = 0; query < tile.queries; ++query) {
    if (page.visible[query] == 0) continue;
    score(tile, page, query, scores);
    weigh(tile, page, query, scores, probabilities);
    if (tile.out) addValues(tile, page, query, probabilities);
  }
}

void expandCodes(const std::int8_t* codes, bf16* out, std::size_t count, Prefetch&) {
  for (std::size_t i = 0; i < count; ++i) out[i] = toBf16(static_cast<float>(codes[i]));
}

void unpackCodes(int bits, const std::byte* codes, int headDim, int columns, bf16* out, Prefetch&) {
  const int perWord = 16 / bits;
  for (int vector = 0; vector < headDim; ++vector) {
    const std::byte* words = codes + vector / perWord * kPackedVector * sizeof(std::uint16_t);
    const int place = columns == 0 ? vector : vector % 16 * columns + vector / 16;
    for (int lane = 0; lane < kPackedVector; ++lane) {
      std::uint16_t word;
      std::memcpy(&word, words + lane * sizeof word, sizeof word);
      const int code = word >> (vector % perWord * bits) & ((1 << bits) - 1);
      out[place * kPackedVector + lane] = toBf16(levelOf(bits, code));
    }
  }
}

void foldQueries(const QueryFold& fold) {
  for (int query = 0; query < fold.queries; ++query) {
    const bf16* q = fold.q + static_cast<std::size_t>(query) * fold.stride;
    bf16* folded = fold.folded + static_cast<std::size_t>(query) * fold.stride;
    float offset = 0;
    for (int channel = 0; channel < fold.headDim; ++channel) {
      folded[channel] = toBf16(toFloat(q[channel]) * toFloat(fold.steps[channel]));
      offset += toFloat(q[channel]) * toFloat(fold.middles[channel]);
    }
    std::fill(folded + fold.headDim, folded + fold.stride, bf16{0});
    fold.offsets[query] = offset;
  }
}

}  // namespace

const AttentionKernels kPortableAttention = {.attendPage = attendPage,
                                             .boundPage = boundPage,
                                             .expandCodes = expandCodes,
                                             .unpackCodes = unpackCodes,
                                             .foldQueries = foldQueries};

}  // namespace tandem::cpu
