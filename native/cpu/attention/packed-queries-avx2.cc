#include <immintrin.h>

#include "cpu/attention/lanes-avx2.h"
#include "cpu/attention/packed-attention-avx2.h"
#include "cpu/attention/packed-order.h"
#include "cpu/attention/whole-numbers-avx2.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// The steps of a page's channels as int16, the largest at least 2^14: exact, but for the last bits of those
// that are less than 2^-7 of it.
struct StepNumbers {
  alignas(32) std::int16_t numbers[kMaxHeadDim];
  float unit;
};

[[gnu::always_inline]] inline void toStepNumbers(const bf16* steps, int headDim, StepNumbers& out) {
  const float largest = largestOf(steps, headDim);
  const auto exponent = static_cast<int>(__builtin_bit_cast(std::uint32_t, largest) >> 23);
  const auto powerOfTwo = [](int biased) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(biased) << 23);
  };
  // A number of 2^14 stands for 2^(exponent - 127).
  const bool isUsable = exponent > 14 && exponent < 255;
  out.unit = isUsable ? powerOfTwo(exponent - 14) : exponent == 255 ? largest - largest : 0.0f;
  const __m256 per = _mm256_set1_ps(isUsable ? powerOfTwo(268 - exponent) : 0.0f);
  for (int channel = 0; channel < headDim; channel += 16) {
    const __m256i pairs = loadPairs(steps + channel);
    const __m256i even = _mm256_cvtps_epi32(_mm256_mul_ps(firsts(pairs), per));
    const __m256i odd = _mm256_cvtps_epi32(_mm256_mul_ps(seconds(pairs), per));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out.numbers + channel),
                       _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa));
  }
}

[[gnu::always_inline]] inline __m256i product(const std::int16_t* numbers, const std::int16_t* steps) {
  return _mm256_mulhrs_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers)),
                             _mm256_load_si256(reinterpret_cast<const __m256i*>(steps)));
}

// What R queries from `first` on get from a page's scales before there are bytes.
struct Folding {
  // What makes bytes of the products with the steps: 127 * 2^15 / the largest of each, which fits int16.
  std::int32_t factors[kTileQueries + 3];
  float middles[kTileQueries + 3];  // q . middles
};

template <int R>
[[gnu::always_inline]] inline void beginFolding(const QueryTile& tile, int headDim, const StepNumbers& steps,
                                                const bf16* middles, int first, Folding& folding) {
  __m256i largest[R];
  __m256 sums[4];
  unroll<4>([&](auto r) { sums[r] = _mm256_setzero_ps(); });
  unroll<R>([&](auto r) { largest[r] = _mm256_setzero_si256(); });
  const std::int16_t* numbers = tile.numbers + first * kNumbersStride;
  const bf16* q = tile.q + static_cast<std::size_t>(first) * tile.stride;
  for (int channel = 0; channel < headDim; channel += 16) {
    const __m256i pairs = loadPairs(middles + channel);
    const __m256 even = firsts(pairs), odd = seconds(pairs);
    unroll<R>([&](auto r) {
      const __m256i here = product(numbers + r * kNumbersStride + channel, steps.numbers + channel);
      largest[r] = _mm256_max_epi16(largest[r], _mm256_abs_epi16(here));
      const __m256i two = loadPairs(q + static_cast<std::size_t>(r) * tile.stride + channel);
      sums[r] = _mm256_fmadd_ps(firsts(two), even, sums[r]);
      sums[r] = _mm256_fmadd_ps(seconds(two), odd, sums[r]);
    });
  }
  _mm_storeu_ps(folding.middles + first, reduceFour(sums, AddLanes{}));
  __m256 four[4];
  unroll<4>([&](auto r) { four[r] = _mm256_setzero_ps(); });
  unroll<R>([&](auto r) {
    four[r] = _mm256_cvtepi32_ps(_mm256_max_epi32(_mm256_srli_epi32(largest[r], 16),
                                                  _mm256_and_si256(largest[r], _mm256_set1_epi32(0xffff))));
  });
  const __m128 most = _mm_max_ps(reduceFour(four, MaxLanes{}), _mm_set1_ps(128));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(folding.factors + first),
                   _mm_cvttps_epi32(_mm_div_ps(_mm_set1_ps(127 * 32768.0f), most)));
}

template <int R, int Bits>
[[gnu::always_inline]] inline void foldGroup(const QueryTile& tile, int headDim, const StepNumbers& steps,
                                             const Folding& folding, int first, ByteQueries& queries,
                                             Prefetch& next) {
  __m256i factors[R], sums[R];
  unroll<R>([&](auto r) {
    factors[r] = _mm256_set1_epi16(static_cast<std::int16_t>(folding.factors[first + r]));
    sums[r] = _mm256_setzero_si256();
  });
  const std::int16_t* numbers = tile.numbers + first * kNumbersStride;
  const __m256i places = _mm256_load_si256(reinterpret_cast<const __m256i*>(kEightPlaces<Bits>.places));
  for (int channel = 0; channel < headDim; channel += 32) {
    next.step<2>();
    const bool isWhole = headDim - channel >= 32;
    unroll<R>([&](auto r) {
      const auto numbersAt = [&](int at) __attribute__((always_inline)) {
        return _mm256_mulhrs_epi16(product(numbers + r * kNumbersStride + at, steps.numbers + at),
                                   factors[r]);
      };
      const __m256i low = numbersAt(channel);
      const __m256i high = isWhole ? numbersAt(channel + 16) : _mm256_setzero_si256();
      const __m256i bytes = _mm256_permute4x64_epi64(
          _mm256_shuffle_epi8(_mm256_packs_epi16(low, high), places), _MM_SHUFFLE(3, 1, 2, 0));
      // Of eight vectors at most.
      sums[r] = _mm256_add_epi16(sums[r], _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes));
      _mm256_store_si256(reinterpret_cast<__m256i*>(queries.numbers + (first + r) * kMaxHeadDim + channel),
                         bytes);
    });
  }
  __m256 four[4];
  unroll<4>([&](auto r) { four[r] = _mm256_setzero_ps(); });
  unroll<R>([&](auto r) { four[r] = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[r], _mm256_set1_epi16(1))); });
  const __m128 ofBytes = reduceFour(four, AddLanes{});
  // A step is number * unit, a product loses 15 bits, and so does a number of the query.
  const __m128 factor =
      _mm_cvtepi32_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(folding.factors + first)));
  const __m128 ofQueries = _mm_maskload_ps(tile.units + first, firstOfFour<R>());
  const __m128 units = _mm_mul_ps(_mm_div_ps(_mm_set1_ps(32768.0f), factor),
                                  _mm_mul_ps(_mm_set1_ps(32768.0f * steps.unit), ofQueries));
  const __m128 below = _mm_mul_ps(_mm_mul_ps(ofBytes, units), _mm_set1_ps(levelOf(Bits, (1 << Bits) - 1)));
  const __m128 offsets = _mm_sub_ps(_mm_loadu_ps(folding.middles + first), below);
  const __m128 scale = _mm_set1_ps(tile.scale);
  _mm_storeu_ps(queries.units + first, _mm_mul_ps(units, scale));
  _mm_storeu_ps(queries.offsets + first, _mm_mul_ps(offsets, scale));
}

// Each of these steps is a chain in which one thing waits for another, so pages take turns.
template <int Bits>
[[gnu::always_inline]] inline void foldPages(const QueryTile& tile, int headDim,
                                             std::span<const PageCodes> pages, ByteQueries* queries,
                                             Prefetch* next) {
  StepNumbers steps[kMostTogether];
  Folding foldings[kMostTogether];
  const auto scalesOf = [&](std::size_t i) { return reinterpret_cast<const bf16*>(pages[i].keyScales); };
  for (std::size_t i = 0; i < pages.size(); ++i) toStepNumbers(scalesOf(i), headDim, steps[i]);
  byGroups<4>(
      tile.queries, [&](auto r, int first) __attribute__((always_inline)) {
        for (std::size_t i = 0; i < pages.size(); ++i) {
          beginFolding<r>(tile, headDim, steps[i], scalesOf(i) + headDim, first, foldings[i]);
        }
        for (std::size_t i = 0; i < pages.size(); ++i) {
          foldGroup<r, Bits>(tile, headDim, steps[i], foldings[i], first, queries[i], next[i]);
        }
      });
}

}  // namespace

// With the usual head dimensions known, loops over channels are straight code.
template <int Bits>
void foldByteQueries(const QueryTile& tile, std::span<const PageCodes> pages, ByteQueries* queries,
                     Prefetch* next) {
  switch (tile.headDim) {
    case 64:
      return foldPages<Bits>(tile, 64, pages, queries, next);
    case 128:
      return foldPages<Bits>(tile, 128, pages, queries, next);
    default:
      return foldPages<Bits>(tile, tile.headDim, pages, queries, next);
  }
}

template void foldByteQueries<4>(const QueryTile&, std::span<const PageCodes>, ByteQueries*, Prefetch*);
template void foldByteQueries<2>(const QueryTile&, std::span<const PageCodes>, ByteQueries*, Prefetch*);

}  // namespace tandem::cpu
