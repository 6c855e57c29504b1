#pragma once

// The codes of packed pages as products of bytes take them. Include only from files compiled for AVX-512.

#include <immintrin.h>

#include <cstddef>

#include "cpu/attention/kernels.h"
#include "cpu/attention/packed-order.h"

namespace tandem::cpu {

// A page's codes as vectors of bytes that `vpdpbusd` takes as they are. The words of a page hold elements of
// several vectors of pairs, so a mask leaves two of those side by side: in each lane, four channels of a
// token, in the order of orderOfEight, or four tokens of a channel, in that of SixteenPlaces.
template <int Bits>
class PackedCodes {
 public:
  static constexpr int kMask = 0x101 * ((1 << Bits) - 1);
  // How many bits too large the codes of vector i are while they stay where they lie in their byte.
  static constexpr int liftOf(int i) { return Bits == 4 ? i % 2 * 4 : i * 2; }

  explicit PackedCodes(const PageCodes& page) : PackedCodes(page.keys, page.values) {}
  PackedCodes(const std::byte* keys, const std::byte* values) : keys_(keys), values_(values) {}

  // Of eight channels: vectors 0 and 2 have tokens 0..15, 1 and 3 have tokens 16..31. They stay lifted.
  template <int I>
  [[gnu::always_inline]] __m512i key(int eight) const {
    return _mm512_and_si512(words<I>(keys_ + eight * kEightBytes),
                            _mm512_set1_epi16(static_cast<short>(kMask << liftOf(I))));
  }

  // Of 16 channels and half a page: four tokens.
  template <int I>
  [[gnu::always_inline]] __m512i value(int column, int half) const {
    const __m512i lifted = words<I>(values_ + (column * 2 + half) * kEightBytes);
    return _mm512_and_si512(liftOf(I) == 0 ? lifted : _mm512_srli_epi16(lifted, liftOf(I)),
                            _mm512_set1_epi16(kMask));
  }

 private:
  static constexpr int kEightBytes = 32 * Bits;

  template <int I>
  [[gnu::always_inline]] static __m512i words(const std::byte* codes) {
    return _mm512_loadu_si512(codes + (Bits == 4 ? I / 2 * 64 : 0));
  }

  const std::byte* keys_;
  const std::byte* values_;
};

}  // namespace tandem::cpu
