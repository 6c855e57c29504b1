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

  // Of a head block, both tiles and their scales.
  static constexpr int kHeadBytes = static_cast<int>(PageFormat{kPrecision, 1, kHeadDim}.headBytes());

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
    // A remainder that the compiler knows to be small, for the places in a line, and of which it does not
    // know it, for the addresses: all but the first of these are constants away.
    const unsigned own = thread % kThreads;
    const unsigned begin = 16 * static_cast<unsigned>(computedAnew(static_cast<int>(own)));
    const std::byte* tile = head + (kKeys ? 0 : kBytes) + begin;
#pragma unroll
    for (unsigned first = 0; first < kChunks; first += kThreads) {
      if (kChunks % kThreads != 0 && first + own >= kChunks) break;
      const unsigned turn = turnOf(kThreads / 8 % kTurnPeriod == 0 ? own / 8 : first / 8 + own / 8);
      copyAsync(slot + (kTurned ? 16 * (own ^ turn) : begin) + 16 * first, tile + 16 * first);
    }
    if constexpr (kScaleBytes > 0) {
      std::byte* to = slot + kBytes + begin;
      const std::byte* from = head + kScalesBegin + begin;
#pragma unroll
      for (unsigned first = 0; first < kScaleChunks; first += kThreads) {
        if (kScaleChunks % kThreads != 0 && first + own >= kScaleChunks) break;
        copyAsync(to + 16 * first, from + 16 * first);
      }
    }
  }

  // Both pairs of channels of the lane's in a depth of 16. Words 2 m and 2 m + 1 are of quarter m of the
  // page.
  __device__ static void loadKeys(std::uint32_t (&low)[4], std::uint32_t (&high)[4], const std::byte* slot,
                                  int depth, int g, int t) {
    if constexpr (kPrecision == PrecisionClass::bf16) {
      const std::byte* line = slot + 16 * (64 * depth + 16 * t + (g ^ 2 * t));
      load(low, line);
      load(high, line + 128);
    } else if constexpr (kPrecision == PrecisionClass::int8) {
      const std::byte* line = slot + 128 * (4 * depth + t) + 8 * (g % 2);
      expand(low, *reinterpret_cast<const uint2*>(line + 16 * (g / 2 ^ 2 * t)));
      expand(high, *reinterpret_cast<const uint2*>(line + 16 * ((4 + g / 2) ^ 2 * t)));
    } else {
      // Depths are a constant apart, words and scales, so that all of them share their addresses.
      std::uint32_t words[4];
      loadPacked(words, slot + 64 * wordOf(8 * depth, 0), wordOf(2 * t, g), g, t);
      const std::byte* scales = slot + kBytes + 8 * t + 32 * depth;
      const uint2 steps = *reinterpret_cast<const uint2*>(scales);
      const uint2 middles = *reinterpret_cast<const uint2*>(scales + 2 * kHeadDim);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t codes = rotated(words[i], shiftOf(2 * t, g) - 1);
        // The next pair's are two codes up, in int2 still among the bits that a number takes.
        std::uint32_t next;
        if constexpr (kBits == 2) {
          next = levels<5>(codes);
        } else {
          next = levels<1>(codes >> 8);
        }
        low[i] = fmaBf16(levels<1>(codes), steps.x, middles.x);
        high[i] = fmaBf16(next, steps.y, middles.y);
      }
    }
  }

  // Four channels of the lane's four pairs of tokens.
  __device__ static void loadValues(std::uint32_t (&words)[4][4], const std::byte* slot, int block, int g,
                                    int t) {
    if constexpr (isPacked(kPrecision)) {
      std::uint32_t packed[4];
      loadPacked(packed, slot + 64 * wordOf(0, 8 * block), wordOf(4 * t, g), g, t);
      std::uint32_t steps[4], middles[4];
      load(steps, slot + kBytes + 16 * t);
      load(middles, slot + kBytes + 2 * kPageTokens + 16 * t);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        std::uint32_t pairs[4];
        if constexpr (kBits == 4) {
          pairs[0] = levels<1>(packed[i] << 1);
          pairs[1] = levels<3>(packed[i] >> 1);
          pairs[2] = levels<3>(packed[i] >> 5);
          pairs[3] = levels<3>(packed[i] >> 9);
        } else {
          const std::uint32_t codes = rotated(packed[i], shiftOf(4 * t, g) - 1);
          pairs[0] = levels<1>(codes);
          pairs[1] = levels<3>(codes);
          pairs[2] = levels<5>(codes);
          pairs[3] = levels<5>(codes >> 2);
        }
#pragma unroll
        for (int pair = 0; pair < 4; ++pair)
          words[pair][i] = fmaBf16(pairs[pair], steps[pair], middles[pair]);
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
  // Pairs of int8 codes.
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
  // The levels of the codes that lie in both halves from bit kBit on: code - (levels - 1) / 2. Behind bf16's
  // 128 a code counts 2^kBit times; both are taken away in one exact step.
  template <int kBit>
  __device__ static std::uint32_t levels(std::uint32_t words) {
    constexpr std::uint32_t kTop = (1 << kBits) - 1, kMask = 0x10001u * (kTop << kBit);
    static_assert(kBit > 0 && kTop << kBit < 128, "a code lies within the seven bits of a bf16");
    constexpr std::uint32_t kScale = 0x10001u * (0x3f80u - (kBit << 7));  // 2^-kBit
    constexpr std::uint32_t kBias =
        0x10001u * (0xc300u - (kBit << 7) + (kTop << (kBit - 1)));  // -128 of them
    return fmaBf16(maskedBehind(words, kMask, 0x43004300u), kScale, kBias);
  }
  // The same of codes from a bit on that the compiler does not know.
  __device__ static std::uint32_t levelsAt(std::uint32_t words, int shift) {
    return levels<1>(rotated(words, shift - 1));
  }
  // By so many bits to the right, or one to the left.
  __device__ static std::uint32_t rotated(std::uint32_t words, int bits) {
    return __funnelshift_r(words, words, static_cast<unsigned>(bits));
  }

 private:
  // Chunks of 16 bytes in a row of pairs. The four rows that lanes of a quarter of the warp read together
  // begin at the same bank: chunks of a line of 128 bytes change places, so that each row's are elsewhere.
  // Rows of 96 codes lie across lines, and stay. Of int4 two rows begin at the same bank, of int2 none.
  static constexpr int kRowChunks = (kKeys ? kPageTokens : kHeadDim) * kBits / 64;
  static constexpr bool kTurned =
      isPacked(kPrecision) ? kBits == 4 : kRowChunks % 8 == 0 || 8 % kRowChunks == 0;

  // What the places of the chunks in a line differ by. It recurs after kTurnPeriod lines.
  static constexpr unsigned kTurnLines =
      kRowChunks * (kKeys ? 2 : 4) < 8 ? 1 : kRowChunks * (kKeys ? 2 : 4) / 8;
  static constexpr unsigned kTurnPeriod = isPacked(kPrecision) ? 2 : 4 * kTurnLines;
  __device__ static unsigned turnOf(unsigned line) {
    if constexpr (!kTurned) {
      return 0;
    } else if constexpr (isPacked(kPrecision)) {
      return 2 * (line % 2);
    } else {
      return 2 * (line / kTurnLines % 4);
    }
  }

  // Four words of a packed tile's run, which begins at 64 * word.
  __device__ static void loadPacked(std::uint32_t (&words)[4], const std::byte* slot, int word, int g,
                                    int t) {
    load(words, slot + 64 * word + 16 * (kTurned ? g % 4 ^ t / 2 * 2 : g % 4));
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
    case PrecisionClass::far:
    case PrecisionClass::none:  // has no entry
      return;
  }
}

}  // namespace tandem::cuda
