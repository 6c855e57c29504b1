#pragma once

// What lies in a page: kPageTokens tokens of one layer's K and V, all KV heads, in one precision class.
//
// The precision class is the format's first dimension: a page's bytes are [kvHeads] head blocks, and a head
// block is
//
//   keys    [headDim / 2][kPageTokens][2]   pairs of channels side by side, so that 16 tokens fill one vector
//   of
//                                           bf16-pair dot products, and 16 rows are one AMX B tile of q kt
//   values  [kPageTokens / 2][headDim][2]   pairs of tokens side by side: the B operand of p v, a page being
//                                           exactly one AMX tile's depth
//   scales  keys [kPageTokens], values [kPageTokens], float32; int8 only: value = scale * code, symmetric,
//   codes
//                                           -127..127, per token and head
//
// The element order is the same in every class, so a loader turns a page's codes into bf16 by one linear
// pass, and the attention core is written once. A page is self-contained: it can be shared, moved or swapped
// by its bytes.

#include <cstddef>
#include <cstdint>

namespace tandem {

inline constexpr int kPageTokens = 32;

enum class PrecisionClass : std::uint8_t { bf16, int8 };

struct PageFormat {
  PrecisionClass precision = PrecisionClass::bf16;
  int kvHeads = 0;
  int headDim = 0;  // a multiple of 16

  constexpr std::size_t elementBytes() const { return precision == PrecisionClass::bf16 ? 2 : 1; }
  constexpr std::size_t tileElements() const { return static_cast<std::size_t>(kPageTokens) * headDim; }
  constexpr std::size_t scaleBytes() const {
    return precision == PrecisionClass::bf16 ? 0 : 2 * kPageTokens * sizeof(float);
  }

  constexpr std::size_t headBytes() const { return 2 * tileElements() * elementBytes() + scaleBytes(); }
  constexpr std::size_t pageBytes() const { return kvHeads * headBytes(); }

  // Offsets in a page, in bytes.
  constexpr std::size_t keys(int kvHead) const { return kvHead * headBytes(); }
  constexpr std::size_t values(int kvHead) const { return keys(kvHead) + tileElements() * elementBytes(); }
  constexpr std::size_t keyScales(int kvHead) const {
    return values(kvHead) + tileElements() * elementBytes();
  }
  constexpr std::size_t valueScales(int kvHead) const {
    return keyScales(kvHead) + kPageTokens * sizeof(float);
  }

  // Indices in a tile, in elements.
  static constexpr std::size_t keyIndex(int token, int channel) {
    return (static_cast<std::size_t>(channel / 2) * kPageTokens + token) * 2 + channel % 2;
  }
  constexpr std::size_t valueIndex(int token, int channel) const {
    return (static_cast<std::size_t>(token / 2) * headDim + channel) * 2 + token % 2;
  }
};

}  // namespace tandem
