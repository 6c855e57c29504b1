#pragma once

// The keys or the values of one head of a page in shared memory, from where a warp takes them as operands of
// tensor cores: 16 bytes a lane, which are four words of bf16 pairs. With g = lane / 4 and t = lane % 4 these
// are
//
//   keys    tokens 4 g .. 4 g + 3 of a pair of channels: 8 depth + 2 t + half
//   values  channels 32 block + 4 g .. + 3 of a pair of tokens: 4 t + pair
//
// What a word stands for depends on the class: the elements themselves in bf16; codes in int8, whose scales
// meet the scores and the probabilities; in a packed class step * level + middle, rounded to bf16 as the
// elements of a page of bf16 are.

#include "cuda/bf16-pair.h"
#include "cuda/page-tables.h"

namespace tandem::cuda {

// `kKeys`: or values.
template <int kHeadDim, bool kKeys, PrecisionClass kPrecision>
struct PageTile {
  static constexpr PrecisionClass kClass = kPrecision;
  static constexpr int kBits = bitsOf(kPrecision);
  static constexpr int kBytes = kPageTokens * kHeadDim * kBits / 8;
  static constexpr int kScaleBytes = kPrecision == PrecisionClass::bf16 ? 0
                                     : isPacked(kPrecision) && kKeys    ? 4 * kHeadDim
                                                                        : 4 * kPageTokens;
  static constexpr int kSlotBytes = kBytes + kScaleBytes;

  // Whether scores and probabilities are multiplied by `loadScales`.
  static constexpr bool kScaledTokens = kPrecision == PrecisionClass::int8;

  // Where the scales begin in a head block.
  static constexpr int kScalesBegin =
      kKeys ? 2 * kBytes : 2 * kBytes + (isPacked(kPrecision) ? 4 * kHeadDim : kScaleBytes);

  // Copies the tile of the head block at `head` and behind it its scales, as one of kThreads, a multiple
  // of 8.
  template <unsigned kThreads>
  __device__ static void copy(std::byte* slot, const std::byte* head, unsigned thread) {
    constexpr unsigned kChunks = kBytes / 16, kScaleChunks = kScaleBytes / 16;
    const std::byte* tile = head + (kKeys ? 0 : kBytes);
#pragma unroll
    for (unsigned first = 0; first < kChunks; first += kThreads) {
      if (kChunks % kThreads != 0 && first + thread >= kChunks) break;
      copyAsync(slot + 16 * ((thread ^ turnOf(first + thread)) + first), tile + 16 * (first + thread));
    }
#pragma unroll
    for (unsigned first = 0; first < kScaleChunks; first += kThreads) {
      if (first + thread >= kScaleChunks) break;
      copyAsync(slot + kBytes + 16 * (first + thread), head + kScalesBegin + 16 * (first + thread));
    }
  }

  // Tokens of quarter m of the page, in both pairs of channels of the lane's in a depth of 16.
  __device__ static void loadKeys(std::uint32_t (&low)[2], std::uint32_t (&high)[2], const std::byte* slot,
                                  int depth, int m, int g, int t) {
    if constexpr (kPrecision == PrecisionClass::bf16) {
      const std::byte* line = slot + 16 * (64 * depth + 16 * t + (g ^ 2 * t)) + 8 * m;
      load(low, line);
      load(high, line + 128);
    } else if constexpr (kPrecision == PrecisionClass::int8) {
      const std::byte* line = slot + 128 * (4 * depth + t) + 8 * (g % 2) + 4 * m;
      expand(low, *reinterpret_cast<const std::uint32_t*>(line + 16 * (g / 2 ^ 2 * t)));
      expand(high, *reinterpret_cast<const std::uint32_t*>(line + 16 * ((4 + g / 2) ^ 2 * t)));
    } else {
      const int pair = 8 * depth + 2 * t, shift = shiftOf(pair, g);
      std::uint32_t words[2];
      load(words, slot + 64 * wordOf(pair, g) + 16 * (g % 4) + 8 * m);
      const std::byte* scales = slot + kBytes + 4 * pair;
      const uint2 steps = *reinterpret_cast<const uint2*>(scales);
      const uint2 middles = *reinterpret_cast<const uint2*>(scales + 2 * kHeadDim);
      const std::uint32_t halves[2] = {halved(steps.x), halved(steps.y)};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        low[i] = fmaBf16(levels(words[i], shift), halves[0], middles.x);
        high[i] = fmaBf16(levels(words[i], shift + 2 * kBits), halves[1], middles.y);
      }
    }
  }

  // Four channels of the lane's four pairs of tokens.
  __device__ static void loadValues(std::uint32_t (&words)[4][4], const std::byte* slot, int block, int g,
                                    int t) {
    if constexpr (isPacked(kPrecision)) {
      std::uint32_t packed[4];
      load(packed, slot + 64 * wordOf(4 * t, 8 * block + g) + 16 * (g % 4));
      std::uint32_t steps[4], middles[4];
      load(steps, slot + kBytes + 16 * t);
      load(middles, slot + kBytes + 2 * kPageTokens + 16 * t);
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const int shift = shiftOf(4 * t + pair, 8 * block + g);
        const std::uint32_t half = halved(steps[pair]);
#pragma unroll
        for (int i = 0; i < 4; ++i) words[pair][i] = fmaBf16(levels(packed[i], shift), half, middles[pair]);
      }
    } else {
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        if constexpr (kPrecision == PrecisionClass::bf16) {
          load(words[pair], slot + 16 * ((4 * t + pair) * (kHeadDim / 4) + 8 * block + (g ^ 2 * t)));
        } else if constexpr (kTurned) {
          const int line = ((4 * t + pair) * (kHeadDim / 8) + 4 * block) / 8;
          const int inLine = ((4 * t + pair) * (kHeadDim / 8) + 4 * block) % 8 + g / 2;
          expand(words[pair],
                 *reinterpret_cast<const uint2*>(slot + 128 * line + 16 * (inLine ^ 2 * t) + 8 * (g % 2)));
        } else {
          expand(words[pair], *reinterpret_cast<const uint2*>(
                                  slot + 16 * ((4 * t + pair) * (kHeadDim / 8) + 4 * block) + 8 * g));
        }
      }
    }
  }

  // What scores and probabilities of the lane's tokens of quarter m are multiplied with.
  __device__ static float2 loadScales(const std::byte* slot, int m, int g) {
    return *reinterpret_cast<const float2*>(slot + kBytes + 16 * g + 8 * m);
  }

  __device__ static void load(std::uint32_t (&words)[4], const std::byte* place) {
    const uint4 four = *reinterpret_cast<const uint4*>(place);
    words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
  }
  __device__ static void load(std::uint32_t (&words)[2], const std::byte* place) {
    const uint2 two = *reinterpret_cast<const uint2*>(place);
    words[0] = two.x, words[1] = two.y;
  }
  // Pairs of int8 codes.
  __device__ static void expand(std::uint32_t (&words)[2], std::uint32_t codes) {
    words[0] = expandCodes<0>(codes), words[1] = expandCodes<1>(codes);
  }
  __device__ static void expand(std::uint32_t (&words)[4], uint2 codes) {
    words[0] = expandCodes<0>(codes.x), words[1] = expandCodes<1>(codes.x);
    words[2] = expandCodes<0>(codes.y), words[3] = expandCodes<1>(codes.y);
  }
  // A word of a packed tile holds neighbouring pairs of channels, each for tokens 0-15 and for 16-31, or
  // neighbouring pairs of tokens of 16 channels. Which run of words has a pair, for a four of tokens or
  // channels, and from which bit on.
  static constexpr int kWordPairs = (kKeys ? 8 : 16) / kBits;
  __device__ static int wordOf(int pair, int four) {
    return pair / kWordPairs + (kKeys ? 0 : four / 4 * (16 / kWordPairs));
  }
  __device__ static int shiftOf(int pair, int four) {
    return kKeys ? (pair % kWordPairs * 2 + four / 4) * kBits : pair % kWordPairs * kBits;
  }
  // Twice the levels of the codes from bit `shift` of both halves on: 2 * code - (levels - 1). A code, one
  // bit up, behind bf16's 128 is 128 + 2 * code.
  __device__ static std::uint32_t levels(std::uint32_t words, int shift) {
    constexpr std::uint32_t kTop = (1 << kBits) - 1, kMask = 0x10001u * (2 * kTop);
    constexpr std::uint32_t kOnes = 0x3f803f80u, kBias = 0x10001u * (0xc300u + kTop);  // -(128 + levels - 1)
    const auto codes = static_cast<std::uint32_t>((std::uint64_t{words} << 1) >> shift);
    return fmaBf16((codes & kMask) | 0x43004300u, kOnes, kBias);
  }
  __device__ static std::uint32_t halved(std::uint32_t pair) {
    return fmaBf16(pair, 0x3f003f00u, 0x80008000u);
  }

 private:
  // Chunks of 16 bytes in a row of pairs. The four rows that lanes of a quarter of the warp read together
  // begin at the same bank: chunks of a line of 128 bytes change places, so that each row's are elsewhere.
  // Rows of 96 codes lie across lines, and stay.
  static constexpr int kRowChunks = (kKeys ? kPageTokens : kHeadDim) * kBits / 64;
  static constexpr bool kTurned = !isPacked(kPrecision) && (kRowChunks % 8 == 0 || 8 % kRowChunks == 0);

  // What the place of a chunk in its line differs by.
  __device__ static unsigned turnOf(unsigned chunk) {
    if constexpr (!kTurned) return 0;
    const unsigned row = chunk / 8 * 8 / kRowChunks;
    return 2 * (row / (kKeys ? 2 : 4) % 4);
  }
};

// Calls body(tile) with the PageTile of the entry's class.
template <int kHeadDim, bool kKeys, class Body>
__device__ inline void withTile(PrecisionClass precision, const Body& body) {
  switch (precision) {
    case PrecisionClass::bf16:
      return body(PageTile<kHeadDim, kKeys, PrecisionClass::bf16>());
    case PrecisionClass::int8:
      return body(PageTile<kHeadDim, kKeys, PrecisionClass::int8>());
    case PrecisionClass::int4:
      return body(PageTile<kHeadDim, kKeys, PrecisionClass::int4>());
    case PrecisionClass::int2:
      return body(PageTile<kHeadDim, kKeys, PrecisionClass::int2>());
    case PrecisionClass::none:  // never here; see Backend::passesOverGivenUp
      return;
  }
}

}  // namespace tandem::cuda
