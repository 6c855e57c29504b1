// The codes of packed pages in products of bytes, in vectors of 256 bits: `ByteSums` of the including file
// adds them. They are exact, so how queries, channels and tokens are grouped changes no bit. Everything is in
// an unnamed namespace, so that no code for one processor is linked into another's.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu/attention/kernels.h"
#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/packed-order.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// The largest byte of a query, and of a probability.
constexpr int kMostOfQuery = 127, kMostOfProbability = 255;

template <int Bits>
constexpr int kMostOfCode = (1 << Bits) - 1;

// A page's words hold elements of several vectors of 32 pairs, so a mask leaves two of those side by side: in
// each lane of vector `I` of the four that begin at `words`, four channels of a token, in the order of
// orderOfEight, or four tokens of a channel. Of 16 lanes, here are the eight of `part`.
template <int Bits, int I>
[[gnu::always_inline]] inline __m256i codesOf(const std::byte* words, int part) {
  constexpr int kShift = Bits == 4 ? I % 2 * 4 : I * 2;
  const __m256i lifted =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + (Bits == 4 ? I / 2 * 64 : 0) + part * 32));
  return _mm256_and_si256(kShift == 0 ? lifted : _mm256_srli_epi16(lifted, kShift),
                          _mm256_set1_epi16(0x101 * kMostOfCode<Bits>));
}

// Bytes of words that have four vectors: eight channels of a page's keys, or 16 channels and half a page of
// its values.
template <int Bits>
constexpr int kFourVectors = 32 * Bits;

// How many vectors of sums make the most of 16 registers.
constexpr int kMostSums = 8;

// q kt of R queries with eight channels after eight, to int32 [R][kPageTokens]. numbers:
// [R][kMaxHeadDim] bytes, each eight in the order of orderOfEight
template <int R, int Bits>
[[gnu::always_inline]] inline void multiplyKeys(const std::byte* keys, int headDim,
                                                const std::int8_t* numbers, std::int32_t* scores,
                                                Prefetch& next) {
  // Of the parts of 32 tokens: those in the first half lie in the same words as those in the second.
  constexpr int kParts = R * 4 > kMostSums ? 1 : 2;
  constexpr int kLanes = R * 2 * kParts;
  for (int begin = 0; begin < 2; begin += kParts) {
    using Single = ByteSums<kLanes, kMostOfQuery * kMostOfCode<Bits>>;
    // One query alone in two sums, where one product waits for another.
    constexpr int kChains = Single::kIsChain && 2 * kLanes <= kMostSums ? 2 : 1;
    ByteSums<kChains * kLanes, kMostOfQuery * kMostOfCode<Bits>> sums;
    constexpr int kHeldChannels = Single::kHeld * 4 / 8 * 8;
    const std::byte* words = keys;
    for (int first = 0; first < headDim; first += kHeldChannels) {
      const int end = headDim - first > kHeldChannels ? first + kHeldChannels : headDim;
      for (int channel = first; channel < end; channel += 8, words += kFourVectors<Bits>) {
        next.step<kParts>();
        unroll<2>([&](auto four) {
          __m256i q[R];
          unroll<R>([&](auto r) { q[r] = broadcastFour(numbers + r * kMaxHeadDim + channel + 4 * four); });
          unroll<kParts>([&](auto part) {
            unroll<2>([&](auto half) {
              const __m256i codes = codesOf<Bits, 2 * four + half>(words, begin + part);
              unroll<R>([&](auto r) {
                sums.template add<four % kChains * kLanes + (r * kParts + part) * 2 + half>(codes, q[r]);
              });
            });
          });
        });
      }
      sums.collect();
    }
    unroll<R>([&](auto r) {
      unroll<kParts>([&](auto part) {
        unroll<2>([&](auto half) {
          constexpr int kSum = (r * kParts + part) * 2 + half;
          __m256i sum = sums.template sum<kSum>();
          if constexpr (kChains == 2) sum = _mm256_add_epi32(sum, sums.template sum<kLanes + kSum>());
          auto* to = reinterpret_cast<__m256i*>(scores + r * kPageTokens + half * 16 + (begin + part) * 8);
          _mm256_store_si256(to, sum);
        });
      });
    });
  }
}

}  // namespace
}  // namespace tandem::cpu
