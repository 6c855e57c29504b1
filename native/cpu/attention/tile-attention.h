#pragma once

// Attention of a tile of queries to one page on two-dimensional registers: q kt and p v are tile products,
// the softmax between them is AVX-512's. `Tiles` is HardwareTiles (cpu/matmul/tile.h), or the tests'
// emulation.

#include <algorithm>
#include <cstddef>

#include "cpu/attention/kernels.h"
#include "cpu/attention/probabilities-avx512bf16.h"
#include "cpu/attention/softmax-avx512.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

inline constexpr int kTileDepth = 32;  // bf16 in a tile's row

// scores [queries][kPageTokens] = q kt: 32 channels a step, two tiles of 16 tokens.
template <class Tiles>
void scoreOnTiles(const QueryTile& tile, const bf16* keys, float* scores, Prefetch& next) {
  constexpr std::size_t kRowElements = 2 * kPageTokens;  // a channel pair of all tokens
  constexpr std::size_t kRowBytes = kRowElements * sizeof(bf16);
  const auto step = [&](int channel, const bf16* rows) {
    next.step<32>();
    Tiles::template load<4>(tile.q + channel, tile.stride * sizeof(bf16));
    Tiles::template load<5>(rows, kRowBytes);
    Tiles::template dotBf16<0>();
    Tiles::template load<5>(rows + 32, kRowBytes);
    Tiles::template dotBf16<1>();
  };
  Tiles::template zero<0>();
  Tiles::template zero<1>();
  int channel = 0;
  for (; channel + kTileDepth <= tile.headDim; channel += kTileDepth) {
    step(channel, keys + channel / 2 * kRowElements);
  }
  if (channel < tile.headDim) {
    // Half a step: the rows behind the last channel are the values.
    alignas(64) bf16 padded[kTileDepth / 2 * kRowElements] = {};
    std::copy(keys + channel / 2 * kRowElements, keys + tile.headDim / 2 * kRowElements, padded);
    step(channel, padded);
  }
  Tiles::template store<0>(scores, kPageTokens * sizeof(float));
  Tiles::template store<1>(scores + 16, kPageTokens * sizeof(float));
}

// out += p v for C tiles of 16 channels; a page is exactly one tile deep.
template <class Tiles, int C>
void addValuesOnTiles(const QueryTile& tile, const bf16* values, int channel, Prefetch& next) {
  const std::size_t outBytes = tile.headDim * sizeof(float), rowBytes = 2 * tile.headDim * sizeof(bf16);
  unroll<C>([&](auto c) { Tiles::template load<c>(tile.out + channel + c * 16, outBytes); });
  unroll<C>([&](auto c) {
    next.step<16>();
    Tiles::template load<5>(values + 2 * (channel + c * 16), rowBytes);
    Tiles::template dotBf16<c>();
  });
  unroll<C>([&](auto c) { Tiles::template store<c>(tile.out + channel + c * 16, outBytes); });
}

// What a tile's values are weighted by, and what becomes of their sums so far.
struct TileWeights {
  alignas(64) bf16 probabilities[kTileQueries * kPageTokens];
  float factors[kTileQueries], offsets[kTileQueries];

  [[gnu::always_inline]] void set(int query, __m512 p0, __m512 p1) {
    storeRounded(probabilities + query * kPageTokens, p0, p1);
  }
};

inline void rescale(const QueryTile& tile, const float* factors, const float* offsets) {
  for (int query = 0; query < tile.queries; ++query) {
    if (factors[query] == 1 && offsets[query] == 0) continue;
    const __m512 factor = _mm512_set1_ps(factors[query]), offset = _mm512_set1_ps(offsets[query]);
    float* out = tile.out + static_cast<std::size_t>(query) * tile.headDim;
    for (int channel = 0; channel < tile.headDim; channel += 16) {
      _mm512_storeu_ps(out + channel, _mm512_fmadd_ps(_mm512_loadu_ps(out + channel), factor, offset));
    }
  }
}

template <class Tiles>
void attendPageOnTiles(const QueryTile& tile, const PageTile& page, Prefetch& next) {
  alignas(64) float scores[kTileQueries * kPageTokens];
  TileWeights weights;
  Tiles::configure(tile.queries);
  scoreOnTiles<Tiles>(tile, page.keys, scores, next);
  softmaxPage(tile, page, scores, weights);
  if (!tile.out) {
    Tiles::release();
    return;
  }
  rescale(tile, weights.factors, weights.offsets);
  Tiles::template load<4>(weights.probabilities, kPageTokens * sizeof(bf16));
  int channel = 0;
  for (; channel + 64 <= tile.headDim; channel += 64)
    addValuesOnTiles<Tiles, 4>(tile, page.values, channel, next);
  switch ((tile.headDim - channel) / 16) {
    case 3:
      addValuesOnTiles<Tiles, 3>(tile, page.values, channel, next);
      break;
    case 2:
      addValuesOnTiles<Tiles, 2>(tile, page.values, channel, next);
      break;
    case 1:
      addValuesOnTiles<Tiles, 1>(tile, page.values, channel, next);
      break;
  }
  Tiles::release();
}

}  // namespace tandem::cpu
