// One block for each page and KV head. What shares a step is in one lane (keys), in one warp (values: four
// channels a lane of a pair's row) or, for keys of int8, in one lane of each warp.
// The arithmetic is that of native/cpu/requantize/kernels.inl, operation by operation.
//
// Bytes: the page read (keys to int8 twice, mostly from L1) and written in its new class.

#include "cuda/requantize.h"

#include <string>

#include "core/error.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kPairs = kPageTokens / 2;  // of tokens

constexpr bf16 kNan = 0x7fc0;

// See these in native/cpu/requantize/kernels.inl.
template <int kBits>
constexpr float kCovered = kBits == 2 ? 0.8f : 1.0f;
constexpr int kFitRounds = 3;
constexpr int kFine = 1024;

__device__ bool isFinite(float value) { return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u; }

__device__ float inverted(float step) { return step >= 1.17549435e-38f ? 1 / step : 0.0f; }

__device__ float warpMin(float value) { return -warpMax(-value); }

// Both elements of a pair.
struct Two {
  float even, odd;
};

// An element pair of a tile of bf16 or int8.
struct Source {
  const std::byte* tile;
  const float* scales;  // of tokens, or null: the elements are bf16

  // As it lies there.
  __device__ std::uint32_t raw(int index) const {
    return scales == nullptr ? reinterpret_cast<const std::uint32_t*>(tile)[index]
                             : reinterpret_cast<const std::uint16_t*>(tile)[index];
  }
  __device__ Two meaning(std::uint32_t pair, int evenToken, int oddToken) const {
    if (scales == nullptr) return {lowFloat(pair), highFloat(pair)};
    return {__fmul_rn(static_cast<float>(static_cast<std::int8_t>(pair & 0xff)), scales[evenToken]),
            __fmul_rn(static_cast<float>(static_cast<std::int8_t>(pair >> 8)), scales[oddToken])};
  }
  __device__ Two at(int index, int evenToken, int oddToken) const {
    return meaning(raw(index), evenToken, oddToken);
  }
  __device__ Two key(int pair, int token) const { return at(pair * kPageTokens + token, token, token); }
  __device__ Two value(int pair, int channel, int headDim) const {
    return at(pair * headDim + channel, 2 * pair, 2 * pair + 1);
  }
};

// A group's step and middle, of the lowest and the highest of its elements.
template <int kBits>
struct Group {
  static constexpr float kTop = (1 << kBits) - 1;

  bf16 step = kNan, middle = kNan;
  float inverse = 0, center = 0;
  bool whole = false;  // all elements are finite

  __device__ Group(float low, float high, bool whole) : whole(whole) {
    if (!whole) return;
    middle = roundToBf16(__fadd_rn(__fmul_rn(low, 0.5f), __fmul_rn(high, 0.5f)));
    center = lowFloat(middle);
    const float above = __fsub_rn(high, center), below = __fsub_rn(center, low);
    const float reach = below > above ? below : above;
    step = roundToBf16(__fmul_rn(reach, 2 * kCovered<kBits> / kTop));
    inverse = inverted(lowFloat(step));
  }

  // fitLevels of the CPU, of `all` values, of which a lane has the first `held` of `values`. sumOf(x): the
  // sum over the lanes that share them.
  template <int kMost, class SumOf>
  __device__ void fit(const float (&values)[kMost], int held, int all, const SumOf& sumOf) {
    if (!whole) return;
    int fine[kMost];
    unsigned sum = 0;
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i >= held) continue;
      const float place = placeOf(values[i]);
      const float inside = place > -1 ? (place < kTop + 1 ? place : kTop + 1) : -1.0f;
      fine[i] = static_cast<int>(__fadd_rn(__fmul_rn(__fadd_rn(inside, 1.0f), kFine), 0.5f));
      sum += static_cast<unsigned>(fine[i]);
    }
    const auto parts = static_cast<int>(sumOf(sum));
    float begin = 0, width = 1;
    for (int round = 0; round < kFitRounds; ++round) {
      int borders[3];
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float border = __fadd_rn(begin, __fmul_rn(width, static_cast<float>(i) + 0.5f));
        borders[i] = static_cast<int>(__fadd_rn(__fmul_rn(__fadd_rn(border, 1.0f), kFine), 0.5f));
      }
      unsigned both = 0, product = 0;  // both: sums of codes, and above 16 bits of their squares
#pragma unroll
      for (int i = 0; i < kMost; ++i) {
        if (i >= held) continue;
        const unsigned code = (fine[i] >= borders[0]) + (fine[i] >= borders[1]) + (fine[i] >= borders[2]);
        both += code | code * code << 16;
        product += code * static_cast<unsigned>(fine[i]);
      }
      both = sumOf(both);
      const auto products = static_cast<int>(sumOf(product));
      const int codes = static_cast<int>(both & 0xffffu), squares = static_cast<int>(both >> 16);
      const int spread = all * squares - codes * codes;
      if (spread == 0) continue;
      const int common = all * products - codes * parts;
      width = __fmul_rn(__fdiv_rn(static_cast<float>(common), static_cast<float>(spread)), 1.0f / kFine);
      const float lowest = __fsub_rn(__fmul_rn(static_cast<float>(parts), 1.0f / kFine),
                                     __fmul_rn(width, static_cast<float>(codes)));
      begin = __fsub_rn(__fdiv_rn(lowest, static_cast<float>(all)), 1.0f);
    }
    const float moved = __fsub_rn(__fadd_rn(begin, __fmul_rn(width, kTop / 2)), kTop / 2);
    const float first = lowFloat(step);
    middle = roundToBf16(__fadd_rn(center, __fmul_rn(first, moved)));
    center = lowFloat(middle);
    step = roundToBf16(__fmul_rn(first, width));
    inverse = inverted(lowFloat(step));
  }

  __device__ float placeOf(float value) const {
    return __fadd_rn(__fmul_rn(__fsub_rn(value, center), inverse), kTop / 2);
  }
  __device__ std::uint32_t codeOf(float value) const {
    if (!whole) return 0;
    const float place = placeOf(value);
    const float inside = place > 0 ? (place < kTop ? place : kTop) : 0.0f;
    return static_cast<std::uint32_t>(static_cast<std::int32_t>(inside + 0.5f));
  }
};

template <int kBits>
__device__ Group<kBits> groupOfWarp(float low, float high, bool finite) {
  return {warpMin(low), warpMax(high), !__any_sync(kWholeWarp, !finite)};
}

// A lane is a channel, so that what all of a channel's tokens share is computed once and not by every lane. A
// warp lays 16 pairs out by token, and then 32 channels' codes, of which words hold those of neighbouring
// pairs, for the tokens 0-15 and for 16-31. Rows are a word longer than they need be, or lanes would meet in
// a bank.
template <int kBits>
__device__ void packKeys(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  constexpr int kRows = 8 / kBits, kPairsOfWarp = 16, kWordsOfGroup = kPageTokens / 2;
  constexpr int kRow = kPageTokens + 1, kCodesRow = kWordsOfGroup + 1;
  __shared__ std::uint32_t shared[kWarps][32 * kCodesRow];
  static_assert(kPairsOfWarp * kRow <= 32 * kCodesRow);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t *rows = shared[warp], *codes = rows;
  auto* steps = reinterpret_cast<bf16*>(scales);
  const int half = lane % 2, place = lane / 2 % kRows, pairs = headDim / 2;
  for (int first = warp * kPairsOfWarp; first < pairs; first += kWarps * kPairsOfWarp) {
    const int count = min(kPairsOfWarp, pairs - first);
    for (int pair = 0; pair < count; ++pair)
      rows[pair * kRow + lane] = from.raw((first + pair) * kPageTokens + lane);
    __syncwarp();
    float values[kPageTokens];
    float low = 0, high = 0;
    bool finite = true;
    const bool holds = lane < 2 * count;
#pragma unroll
    for (int token = 0; token < kPageTokens; ++token) {
      const auto [even, odd] = from.meaning(rows[(holds ? lane / 2 : 0) * kRow + token], token, token);
      const float value = half == 0 ? even : odd;
      values[token] = value;
      low = token == 0 ? value : fminf(low, value);
      high = token == 0 ? value : fmaxf(high, value);
      finite = finite && isFinite(value);
    }
    __syncwarp();
    Group<kBits> group(low, high, finite);
    if constexpr (kBits == 2) {
      group.fit(values, kPageTokens, kPageTokens, [](unsigned sum) { return sum; });
    }
    if (holds) {
      steps[2 * first + lane] = group.step;
      steps[headDim + 2 * first + lane] = group.middle;
    }
#pragma unroll
    for (int i = 0; i < kWordsOfGroup; ++i) {
      const std::uint32_t two = group.codeOf(values[i]) | group.codeOf(values[i + kWordsOfGroup]) << kBits;
      codes[lane * kCodesRow + i] = two << (16 * half + 2 * kBits * place);
    }
    __syncwarp();
    for (int i = lane; i < count / kRows * kWordsOfGroup; i += 32) {
      const int channels = i / kWordsOfGroup * 2 * kRows;
      std::uint32_t word = 0;
#pragma unroll
      for (int channel = 0; channel < 2 * kRows; ++channel) {
        word |= codes[(channels + channel) * kCodesRow + i % kWordsOfGroup];
      }
      reinterpret_cast<std::uint32_t*>(tile)[kWordsOfGroup * (first / kRows) + i] = word;
    }
    __syncwarp();
  }
}

// A lane has four channels of each 128. Words hold neighbouring pairs of tokens of 16 channels.
template <int kBits>
__device__ void packValues(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  constexpr int kRows = 16 / kBits, kMostFours = kMaxHeadDim / 128;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  auto* steps = reinterpret_cast<bf16*>(scales);
  for (int first = warp * kRows; first < kPairs; first += kWarps * kRows) {
    std::uint32_t words[kMostFours][4] = {};
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int pair = first + i;
      Two row[kMostFours][4];
      Two low{0, 0}, high{0, 0};
      bool finite[2] = {true, true}, any = false;
#pragma unroll
      for (int four = 0; four < kMostFours; ++four) {
        const int channel = 128 * four + 4 * lane;
        if (channel >= headDim) continue;
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const Two x = from.value(pair, channel + c, headDim);
          row[four][c] = x;
          low = any ? Two{fminf(low.even, x.even), fminf(low.odd, x.odd)} : x;
          high = any ? Two{fmaxf(high.even, x.even), fmaxf(high.odd, x.odd)} : x;
          any = true;
          finite[0] = finite[0] && isFinite(x.even);
          finite[1] = finite[1] && isFinite(x.odd);
        }
      }
      // Lanes without channels have what lane 0 has.
      const Two lowest{__shfl_sync(kWholeWarp, low.even, 0), __shfl_sync(kWholeWarp, low.odd, 0)};
      const Two highest{__shfl_sync(kWholeWarp, high.even, 0), __shfl_sync(kWholeWarp, high.odd, 0)};
      Group<kBits> ofEven =
          groupOfWarp<kBits>(any ? low.even : lowest.even, any ? high.even : highest.even, finite[0]);
      Group<kBits> ofOdd =
          groupOfWarp<kBits>(any ? low.odd : lowest.odd, any ? high.odd : highest.odd, finite[1]);
      if constexpr (kBits == 2) {
        float evens[4 * kMostFours], odds[4 * kMostFours];
        int held = 0;
#pragma unroll
        for (int four = 0; four < kMostFours; ++four) {
          if (128 * four + 4 * lane >= headDim) continue;
          held += 4;
#pragma unroll
          for (int c = 0; c < 4; ++c)
            evens[4 * four + c] = row[four][c].even, odds[4 * four + c] = row[four][c].odd;
        }
        const auto sumOf = [](unsigned sum) { return __reduce_add_sync(kWholeWarp, sum); };
        ofEven.fit(evens, held, headDim, sumOf);
        ofOdd.fit(odds, held, headDim, sumOf);
      }
      if (lane == 0) {
        steps[2 * pair] = ofEven.step;
        steps[2 * pair + 1] = ofOdd.step;
        steps[kPageTokens + 2 * pair] = ofEven.middle;
        steps[kPageTokens + 2 * pair + 1] = ofOdd.middle;
      }
#pragma unroll
      for (int four = 0; four < kMostFours; ++four) {
        if (128 * four + 4 * lane >= headDim) continue;
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const auto [even, odd] = row[four][c];
          words[four][c] |= (ofEven.codeOf(even) | ofOdd.codeOf(odd) << 16) << (kBits * i);
        }
      }
    }
#pragma unroll
    for (int four = 0; four < kMostFours; ++four) {
      const int channel = 128 * four + 4 * lane;
      if (channel >= headDim) continue;
      const int word = channel / 16 * (kPairs / kRows) + first / kRows;
      *reinterpret_cast<uint4*>(tile + 64 * word + channel % 16 * 4) =
          make_uint4(words[four][0], words[four][1], words[four][2], words[four][3]);
    }
  }
}

// A token's symmetric scale; NaN if one of its elements is not finite.
__device__ float scaleOf(float largest, bool whole) {
  return whole ? largest / 127 : __uint_as_float(std::uint32_t{kNan} << 16);
}
__device__ std::int8_t codeOf(float value, float inverse) {
  const float place = __fmul_rn(value, inverse);
  const float inside = place > -127 ? (place < 127 ? place : 127.0f) : -127.0f;
  return static_cast<std::int8_t>(static_cast<std::int32_t>(rintf(inside)));
}
__device__ std::uint16_t codesOf(float even, float odd, float ofEven, float ofOdd) {
  return static_cast<std::uint16_t>(static_cast<std::uint8_t>(codeOf(even, ofEven)) |
                                    static_cast<std::uint8_t>(codeOf(odd, ofOdd)) << 8);
}

// A lane is a token; the warps divide the channels.
__device__ void codeKeys(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  __shared__ float parts[kWarps][kPageTokens];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float largest = 0;
  for (int pair = warp; pair < headDim / 2; pair += kWarps) {
    const auto [even, odd] = from.key(pair, lane);
    const bool finite = isFinite(even) && isFinite(odd);
    largest = fmaxf(largest, finite ? fmaxf(fabsf(even), fabsf(odd)) : INFINITY);
  }
  parts[warp][lane] = largest;
  __syncthreads();
  for (int other = 0; other < kWarps; ++other) largest = fmaxf(largest, parts[other][lane]);
  const float scale = scaleOf(largest, isFinite(largest)), inverse = inverted(scale);
  if (warp == 0) reinterpret_cast<float*>(scales)[lane] = scale;
  for (int pair = warp; pair < headDim / 2; pair += kWarps) {
    const auto [even, odd] = from.key(pair, lane);
    reinterpret_cast<std::uint16_t*>(tile)[pair * kPageTokens + lane] = codesOf(even, odd, inverse, inverse);
  }
}

// A warp has a pair of tokens, a lane every 32nd channel.
__device__ void codeValues(const Source& from, int headDim, std::byte* tile, std::byte* scales) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int pair = warp; pair < kPairs; pair += kWarps) {
    Two largest{0, 0};
    for (int channel = lane; channel < headDim; channel += 32) {
      const auto [even, odd] = from.value(pair, channel, headDim);
      largest.even = fmaxf(largest.even, isFinite(even) ? fabsf(even) : INFINITY);
      largest.odd = fmaxf(largest.odd, isFinite(odd) ? fabsf(odd) : INFINITY);
    }
    largest = {warpMax(largest.even), warpMax(largest.odd)};
    const float ofEven = scaleOf(largest.even, isFinite(largest.even)),
                ofOdd = scaleOf(largest.odd, isFinite(largest.odd));
    if (lane == 0) {
      reinterpret_cast<float*>(scales)[2 * pair] = ofEven;
      reinterpret_cast<float*>(scales)[2 * pair + 1] = ofOdd;
    }
    for (int channel = lane; channel < headDim; channel += 32) {
      const auto [even, odd] = from.value(pair, channel, headDim);
      reinterpret_cast<std::uint16_t*>(tile)[pair * headDim + channel] =
          codesOf(even, odd, inverted(ofEven), inverted(ofOdd));
    }
  }
}

// Of its own the compiler keeps to 96 registers and spills some; with blocks of four warps there is room for
// 128.
__global__ void __launch_bounds__(kThreads, 4) requantizeHead(const PageConversion* conversions) {
  const PageConversion conversion = conversions[blockIdx.x];
  const int kvHead = static_cast<int>(blockIdx.y);
  const PageFormat from = conversion.fromFormat, to = conversion.toFormat;
  const bool scaled = from.precision == PrecisionClass::int8;
  const auto scalesAt = [&](std::size_t offset) {
    return scaled ? reinterpret_cast<const float*>(conversion.from + offset) : nullptr;
  };
  const Source keys{conversion.from + from.keys(kvHead), scalesAt(from.keyScales(kvHead))};
  const Source values{conversion.from + from.values(kvHead), scalesAt(from.valueScales(kvHead))};
  std::byte *keyTile = conversion.to + to.keys(kvHead), *keyScales = conversion.to + to.keyScales(kvHead);
  std::byte *valueTile = conversion.to + to.values(kvHead),
            *valueScales = conversion.to + to.valueScales(kvHead);
  const int headDim = from.headDim;
  if (to.precision == PrecisionClass::int8) {
    codeKeys(keys, headDim, keyTile, keyScales);
    codeValues(values, headDim, valueTile, valueScales);
  } else if (to.precision == PrecisionClass::int4) {
    packKeys<4>(keys, headDim, keyTile, keyScales);
    packValues<4>(values, headDim, valueTile, valueScales);
  } else {
    packKeys<2>(keys, headDim, keyTile, keyScales);
    packValues<2>(values, headDim, valueTile, valueScales);
  }
}

}  // namespace

void validate(std::span<const PageConversion> conversions, const PageFormat& format) {
  check(format.kvHeads > 0 && format.headDim > 0 && format.headDim % 16 == 0 && format.headDim <= kMaxHeadDim,
        "requantize supports head dimensions that are multiples of 16 up to 256");
  for (const auto& [from, to, fromFormat, toFormat] : conversions) {
    if (isPacked(fromFormat.precision) || toFormat.precision == PrecisionClass::none ||
        bitsOf(toFormat.precision) >= bitsOf(fromFormat.precision)) {
      throw Error(std::string("a page cannot be requantized from ") + nameOf(fromFormat.precision) + " to " +
                  nameOf(toFormat.precision));
    }
    const auto fits = [&](const PageFormat& other) {
      return other.kvHeads == format.kvHeads && other.headDim == format.headDim;
    };
    check(fits(fromFormat) && fits(toFormat), "requantize: the page formats do not fit each other");
  }
}

void requantize(const Requantize& problem, Stream stream) {
  if (problem.count == 0) return;
  const dim3 grid(static_cast<unsigned>(problem.count), static_cast<unsigned>(problem.format.kvHeads));
  launch("requantize", requantizeHead, grid, kThreads, stream, problem.conversions);
}

}  // namespace tandem::cuda
