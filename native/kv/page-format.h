#pragma once

// What lies in a page: kPageTokens tokens of one layer's K and V, all KV heads, in one precision class.
//
// A page's bytes are [kvHeads] head blocks, and a head block is
//
//   keys    [headDim / 2][kPageTokens][2]   pairs of channels side by side, so that 16 tokens fill one vector
//                                           of bf16-pair dot products, and 16 rows are one AMX B tile of q kt
//   values  [kPageTokens / 2][headDim][2]   pairs of tokens side by side: the B operand of p v, a page being
//                                           exactly one AMX tile's depth
//   scales                                  of keys, then of values
//
// bf16 has the elements themselves and no scales. int8 has codes in the same order, -127..127, symmetric, and
// a float32 scale per token for keys and for values: value = scale * code.
//
// int4 and int2 are *packed*: value = middle + step * (code - (levels - 1) / 2), code 0..levels - 1, with
// step and middle in bf16 (the codes are made for the rounded ones, so that their rounding costs nothing):
//
//   keys    per channel, over the page's tokens: steps [headDim], middles [headDim]. Keys have channels far
//           from zero; see KIVI (arXiv 2402.02750).
//   values  per token: steps [kPageTokens], middles [kPageTokens].
//
// An outline has the scales of keys as int4 has them, [kvHeads][2 * headDim], and behind them the address of
// the int4 page, in 8 bytes.
//
// A tile is cut into vectors of 32 elements: for keys in the order above, for values token pair after token
// pair within 16 channels. Word i of 16 bits of a run of 32 words holds element i of 16 / bits neighbouring
// vectors, the first lowest: so a vector is unpacked by one shift and one lookup, whatever the class.
//
// A page is self-contained (but for an outline, whose page goes with it): it can be shared, moved or swapped
// by its bytes. One in a packed class needs all of its tokens at once and is therefore made from a full page
// of another class; see Ops::requantize.

#include <array>
#include <cstddef>
#include <cstdint>

namespace tandem {

inline constexpr int kPageTokens = 32;

// Channels of a head at most.
inline constexpr int kMaxHeadDim = 256;

// `far`: an int4 page that lies in host memory. Here lies its *outline*, what it takes to choose it or pass
// it by: the scales of its keys, and its address. `none`: the page was given up. It has no bytes and no
// address, and nobody sees its tokens any more.
enum class PrecisionClass : std::uint8_t { bf16, int8, int4, int2, far, none };

// In which a page's elements can be.
inline constexpr std::array kPrecisionClasses{PrecisionClass::bf16, PrecisionClass::int8,
                                              PrecisionClass::int4, PrecisionClass::int2};

// Those that take KV memory.
inline constexpr std::array kHeldClasses{PrecisionClass::bf16, PrecisionClass::int8, PrecisionClass::int4,
                                         PrecisionClass::int2, PrecisionClass::far};

// Of an element, where it lies in the page itself.
constexpr int bitsOf(PrecisionClass precision) {
  return precision >= PrecisionClass::far ? 0 : 16 >> static_cast<int>(precision);
}

constexpr const char* nameOf(PrecisionClass precision) {
  constexpr const char* names[] = {"bf16", "int8", "int4", "int2", "far", "none"};
  return names[static_cast<int>(precision)];
}

// Whether a class is made from full pages only.
constexpr bool isPacked(PrecisionClass precision) { return bitsOf(precision) < 8; }

// Whether a page of one class can be written again in another; see Ops::requantize.
constexpr bool canBecome(PrecisionClass from, PrecisionClass to) {
  if (to == PrecisionClass::far) return from == PrecisionClass::int4;
  return !isPacked(from) && to != PrecisionClass::none && bitsOf(to) < bitsOf(from);
}

// In which class the elements of a page are, wherever they lie.
constexpr PrecisionClass elementClass(PrecisionClass precision) {
  return precision == PrecisionClass::far ? PrecisionClass::int4 : precision;
}

// Elements that a packed class unpacks together.
inline constexpr int kPackedVector = 32;

// Behind an outline's scales, so that pages stay aligned.
inline constexpr std::size_t kOutlineEnd = 64;

struct PageFormat {
  PrecisionClass precision = PrecisionClass::bf16;
  int kvHeads = 0;
  int headDim = 0;  // a multiple of 16

  // The same heads in another class.
  constexpr PageFormat in(PrecisionClass other) const { return {other, kvHeads, headDim}; }

  constexpr std::size_t tileElements() const { return static_cast<std::size_t>(kPageTokens) * headDim; }
  constexpr std::size_t tileBytes() const { return tileElements() * bitsOf(precision) / 8; }
  constexpr std::size_t keyScaleBytes() const {
    if (precision == PrecisionClass::bf16 || precision == PrecisionClass::none) return 0;
    return isPacked(precision) ? 2 * 2 * static_cast<std::size_t>(headDim) : kPageTokens * sizeof(float);
  }
  constexpr std::size_t valueScaleBytes() const {
    return bitsOf(precision) == 0 || precision == PrecisionClass::bf16 ? 0 : kPageTokens * sizeof(float);
  }

  constexpr std::size_t headBytes() const { return 2 * tileBytes() + keyScaleBytes() + valueScaleBytes(); }
  constexpr std::size_t pageBytes() const {
    return kvHeads * headBytes() + (precision == PrecisionClass::far ? kOutlineEnd : 0);
  }

  // Offsets in a page, in bytes. A packed class has its steps first, then as many middles.
  constexpr std::size_t keys(int kvHead) const { return kvHead * headBytes(); }
  constexpr std::size_t values(int kvHead) const { return keys(kvHead) + tileBytes(); }
  constexpr std::size_t keyScales(int kvHead) const { return values(kvHead) + tileBytes(); }
  constexpr std::size_t valueScales(int kvHead) const { return keyScales(kvHead) + keyScaleBytes(); }

  // Where an outline has its page's address.
  constexpr std::size_t detailPlace() const { return kvHeads * headBytes(); }

  // Indices in a tile of bf16 or int8, in elements.
  static constexpr std::size_t keyIndex(int token, int channel) {
    return (static_cast<std::size_t>(channel / 2) * kPageTokens + token) * 2 + channel % 2;
  }
  constexpr std::size_t valueIndex(int token, int channel) const {
    return (static_cast<std::size_t>(token / 2) * headDim + channel) * 2 + token % 2;
  }

  // The same in the order in which a packed tile is cut into vectors.
  static constexpr std::size_t packedKeyIndex(int token, int channel) { return keyIndex(token, channel); }
  static constexpr std::size_t packedValueIndex(int token, int channel) {
    return (static_cast<std::size_t>(channel / 16) * (kPageTokens / 2) + token / 2) * kPackedVector +
           channel % 16 * 2 + token % 2;
  }

  // Where a packed tile's element lies: in which word of 16 bits, and from which bit on.
  struct Place {
    std::size_t word;
    int shift;
  };
  constexpr Place placeOf(std::size_t index) const {
    const std::size_t vector = index / kPackedVector, perWord = 16 / bitsOf(precision);
    return {vector / perWord * kPackedVector + index % kPackedVector,
            static_cast<int>(vector % perWord) * bitsOf(precision)};
  }
};

}  // namespace tandem
