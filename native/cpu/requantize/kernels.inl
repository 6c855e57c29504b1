// Plain loops that the compiler turns into vectors of the including file's instruction set. Everything is in
// an unnamed namespace and nothing inline from elsewhere is called, so that no code for one processor is
// linked into another's. No sum depends on its order, so every instruction set finds the same bits.

#include "cpu/requantize/kernels.h"

namespace tandem::cpu {
namespace {

constexpr int kTokens = 32;
constexpr int kLanes = 32;  // a vector of kv/page-format.h
constexpr int kLargestHeadDim = 256;

// What of its range a group of codes covers, by measured error of attention: four levels do better when they
// leave the outermost values a little short. See docs/how-it-works.md. Where there are four, it is where
// `fitLevels` begins.
template <int Bits>
constexpr float kCovered = Bits == 2 ? 0.8f : 1.0f;
constexpr int kFitRounds = 3;
constexpr int kFine = 1024;

float widened(bf16 bits) { return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16); }

// One NaN for all: which one an addition gives is the compiler's choice.
float plain(float value) { return value == value ? value : __builtin_nanf(""); }

bf16 narrowed(float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, plain(value));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16>(bits >> 16);
  return static_cast<bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float inverted(float step) { return step >= 1.17549435e-38f ? 1 / step : 0.0f; }

float smaller(float a, float b) { return b < a ? b : a; }
float larger(float a, float b) { return b > a ? b : a; }
float magnitude(float x) { return x < 0 ? -x : x; }

// A vector of elements as float32. scales [kLanes], or null: bf16.
void loadVector(const std::byte* source, const float* scales, float* out) {
  if (scales == nullptr) {
    bf16 bits[kLanes];
    __builtin_memcpy(bits, source, sizeof bits);
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = widened(bits[lane]);
  } else {
    std::int8_t codes[kLanes];
    __builtin_memcpy(codes, source, sizeof codes);
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = static_cast<float>(codes[lane]) * scales[lane];
  }
}

// out [headDim vectors]: two vectors of 16 tokens for each pair of channels.
void loadKeys(const HeadSource& from, float* out) {
  const std::size_t vectorBytes = from.keyScales ? kLanes : 2 * kLanes;
  float scales[2][kLanes];
  for (int lane = 0; from.keyScales && lane < 2 * kLanes; ++lane) {
    scales[lane / kLanes][lane % kLanes] = from.keyScales[lane / 2];
  }
  for (int vector = 0; vector < from.headDim; ++vector) {
    loadVector(from.keys + vector * vectorBytes, from.keyScales ? scales[vector % 2] : nullptr,
               out + vector * kLanes);
  }
}

// out [headDim vectors]: 16 token pairs for each 16 channels.
void loadValues(const HeadSource& from, float* out) {
  const std::size_t vectorBytes = from.valueScales ? kLanes : 2 * kLanes;
  const int columns = from.headDim / 16;
  for (int pair = 0; pair < kTokens / 2; ++pair) {
    float scales[kLanes];
    for (int lane = 0; from.valueScales && lane < kLanes; ++lane) {
      scales[lane] = from.valueScales[2 * pair + lane % 2];
    }
    for (int column = 0; column < columns; ++column) {
      loadVector(from.values + (pair * columns + column) * vectorBytes, from.valueScales ? scales : nullptr,
                 out + (column * kTokens / 2 + pair) * kLanes);
    }
  }
}

// The four levels of least squared error, of the even and the odd lanes of `count` vectors: by turns, the
// codes for the levels and the levels for the codes. Values are counted in whole kFine parts of the first
// step, so that no sum depends on its order. middle, inverse [kLanes]; step [2].
void fitLevels(const float* x, std::size_t stride, int count, float* middle, const float* inverse,
               float* step) {
  constexpr float kTop = 3;
  alignas(64) std::int32_t fine[kLargestHeadDim / 16 * kLanes];
  std::int32_t sums[kLanes] = {};
  for (int i = 0; i < count; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float place = (x[i * stride + lane] - middle[lane]) * inverse[lane] + kTop / 2;
      // Not a number comes out as 0.
      const float inside = place > -1 ? (place < kTop + 1 ? place : kTop + 1) : -1.0f;
      const auto parts = static_cast<std::int32_t>((inside + 1) * kFine + 0.5f);
      fine[i * kLanes + lane] = parts;
      sums[lane] += parts;
    }
  }
  for (int lane = 2; lane < kLanes; ++lane) sums[lane % 2] += sums[lane];
  const std::int32_t all = count * kLanes / 2;
  // Level c lies at begin + width * c, in first steps above the first lowest level.
  float begin[2] = {0, 0}, width[2] = {1, 1};
  for (int round = 0; round < kFitRounds; ++round) {
    std::int32_t borders[3][kLanes];
    for (int i = 0; i < 3; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const float border = begin[lane % 2] + width[lane % 2] * (static_cast<float>(i) + 0.5f);
        borders[i][lane] = static_cast<std::int32_t>((border + 1) * kFine + 0.5f);
      }
    }
    std::int32_t codes[kLanes] = {}, squares[kLanes] = {}, products[kLanes] = {};
    for (int i = 0; i < count; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const std::int32_t parts = fine[i * kLanes + lane];
        const std::int32_t code =
            (parts >= borders[0][lane]) + (parts >= borders[1][lane]) + (parts >= borders[2][lane]);
        codes[lane] += code;
        squares[lane] += code * code;
        products[lane] += code * parts;
      }
    }
    for (int lane = 2; lane < kLanes; ++lane) {
      codes[lane % 2] += codes[lane];
      squares[lane % 2] += squares[lane];
      products[lane % 2] += products[lane];
    }
    for (int parity = 0; parity < 2; ++parity) {
      const std::int32_t spread = all * squares[parity] - codes[parity] * codes[parity];
      if (spread == 0) continue;  // all of them have one code
      const std::int32_t common = all * products[parity] - codes[parity] * sums[parity];
      width[parity] = static_cast<float>(common) / static_cast<float>(spread) * (1.0f / kFine);
      const float lowest = static_cast<float>(sums[parity]) * (1.0f / kFine) -
                           width[parity] * static_cast<float>(codes[parity]);
      begin[parity] = lowest / static_cast<float>(all) - 1;
    }
  }
  for (int parity = 0; parity < 2; ++parity) {
    const float moved = begin[parity] + width[parity] * (kTop / 2) - kTop / 2;
    middle[parity] = middle[parity] + step[parity] * moved;
    step[parity] = step[parity] * width[parity];
  }
}

// The even and the odd lanes of `count` vectors are two groups, each with a step and a middle.
template <int Bits>
void quantizePair(const float* x, std::size_t stride, int count, std::uint16_t* codes, bf16* steps,
                  bf16* middles) {
  constexpr float kTop = (1 << Bits) - 1;
  float low[kLanes], high[kLanes], broken[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) low[lane] = x[lane], high[lane] = x[lane], broken[lane] = 0;
  for (int i = 0; i < count; ++i) {
    const float* vector = x + i * stride;
    for (int lane = 0; lane < kLanes; ++lane) {
      low[lane] = smaller(low[lane], vector[lane]);
      high[lane] = larger(high[lane], vector[lane]);
      broken[lane] += vector[lane] - vector[lane];  // NaN where a value is not finite
    }
  }
  for (int width = kLanes / 2; width >= 2; width /= 2) {
    for (int lane = 0; lane < width; ++lane) {
      low[lane] = smaller(low[lane], low[lane + width]);
      high[lane] = larger(high[lane], high[lane + width]);
      broken[lane] += broken[lane + width];
    }
  }
  float middle[kLanes], step[2], inverse[kLanes];
  for (int parity = 0; parity < 2; ++parity) {
    middle[parity] = widened(narrowed(low[parity] * 0.5f + high[parity] * 0.5f + broken[parity]));
    const float reach = larger(high[parity] - middle[parity], middle[parity] - low[parity]);
    step[parity] = reach * (2 * kCovered<Bits> / kTop);
  }
  const auto round = [&] {
    for (int parity = 0; parity < 2; ++parity) {
      middles[parity] = narrowed(middle[parity]), steps[parity] = narrowed(step[parity]);
      step[parity] = widened(steps[parity]);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      middle[lane] = widened(middles[lane % 2]), inverse[lane] = inverted(step[lane % 2]);
    }
  };
  round();
  if constexpr (Bits == 2) {
    fitLevels(x, stride, count, middle, inverse, step);
    round();
  }
  for (int i = 0; i < count; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float place = (x[i * stride + lane] - middle[lane]) * inverse[lane] + kTop / 2;
      // Not a number comes out as 0.
      const float inside = place > 0 ? (place < kTop ? place : kTop) : 0.0f;
      codes[i * stride + lane] = static_cast<std::uint16_t>(static_cast<std::int32_t>(inside + 0.5f));
    }
  }
}

// Codes of 16 / Bits neighbouring vectors side by side in the words of one.
template <int Bits>
void packCodes(const std::uint16_t* codes, int vectors, std::byte* out) {
  constexpr int kPerWord = 16 / Bits;
  for (int first = 0; first < vectors; first += kPerWord, out += 2 * kLanes) {
    std::uint16_t words[kLanes] = {};
    for (int i = 0; i < kPerWord; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) {
        words[lane] |= static_cast<std::uint16_t>(codes[(first + i) * kLanes + lane] << (i * Bits));
      }
    }
    __builtin_memcpy(out, words, sizeof words);
  }
}

template <int Bits>
void toPacked(const HeadSource& from, const HeadTarget& to) {
  const int headDim = from.headDim;
  alignas(64) float tile[kLargestHeadDim * kLanes];
  alignas(64) std::uint16_t codes[kLargestHeadDim * kLanes];
  bf16 steps[kLargestHeadDim], middles[kLargestHeadDim];

  loadKeys(from, tile);
  for (int channel = 0; channel < headDim; channel += 2) {
    const std::size_t first = static_cast<std::size_t>(channel) * kLanes;
    quantizePair<Bits>(tile + first, kLanes, 2, codes + first, steps + channel, middles + channel);
  }
  packCodes<Bits>(codes, headDim, to.keys);
  __builtin_memcpy(to.keyScales, steps, headDim * sizeof(bf16));
  __builtin_memcpy(to.keyScales + headDim * sizeof(bf16), middles, headDim * sizeof(bf16));

  loadValues(from, tile);
  for (int pair = 0; pair < kTokens / 2; ++pair) {
    const std::size_t first = static_cast<std::size_t>(pair) * kLanes;
    quantizePair<Bits>(tile + first, kTokens / 2 * kLanes, headDim / 16, codes + first, steps + 2 * pair,
                       middles + 2 * pair);
  }
  packCodes<Bits>(codes, headDim, to.values);
  __builtin_memcpy(to.valueScales, steps, kTokens * sizeof(bf16));
  __builtin_memcpy(to.valueScales + kTokens * sizeof(bf16), middles, kTokens * sizeof(bf16));
}

// Symmetric codes with a step per lane.
void toCodes(const float* x, const float* inverse, std::byte* out) {
  std::int8_t codes[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const float place = x[lane] * inverse[lane];
    const float inside = place > -127 ? (place < 127 ? place : 127.0f) : -127.0f;
    // To nearest, ties to even, by leaving no bits below the point.
    codes[lane] = static_cast<std::int8_t>(static_cast<std::int32_t>((inside + 12582912.0f) - 12582912.0f));
  }
  __builtin_memcpy(out, codes, sizeof codes);
}

void toInt8(const HeadSource& from, const HeadTarget& to) {
  const int headDim = from.headDim, columns = headDim / 16;
  alignas(64) float tile[kLargestHeadDim * kLanes];
  float scales[kTokens];

  loadKeys(from, tile);
  float largest[2 * kLanes] = {}, inverse[2 * kLanes];
  for (int channel = 0; channel < headDim; channel += 2) {
    for (int lane = 0; lane < 2 * kLanes; ++lane) {
      const float x = tile[channel * kLanes + lane];
      largest[lane] = larger(largest[lane], magnitude(x)) + (x - x);
    }
  }
  for (int token = 0; token < kTokens; ++token) {
    const float even = largest[2 * token], odd = largest[2 * token + 1];
    scales[token] = plain(larger(even, odd) / 127 + (odd - odd));
    inverse[2 * token] = inverse[2 * token + 1] = inverted(scales[token]);
  }
  for (int vector = 0; vector < headDim; ++vector) {
    toCodes(tile + vector * kLanes, inverse + vector % 2 * kLanes, to.keys + vector * kLanes);
  }
  __builtin_memcpy(to.keyScales, scales, sizeof scales);

  loadValues(from, tile);
  for (int pair = 0; pair < kTokens / 2; ++pair) {
    float lanes[kLanes] = {};
    for (int column = 0; column < columns; ++column) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const float x = tile[(column * kTokens / 2 + pair) * kLanes + lane];
        lanes[lane] = larger(lanes[lane], magnitude(x)) + (x - x);
      }
    }
    float broken[2] = {};
    for (int lane = 0; lane < kLanes; ++lane) broken[lane % 2] += lanes[lane] - lanes[lane];
    for (int lane = 2; lane < kLanes; ++lane) lanes[lane % 2] = larger(lanes[lane % 2], lanes[lane]);
    for (int parity = 0; parity < 2; ++parity) {
      scales[2 * pair + parity] = plain(lanes[parity] / 127 + broken[parity]);
    }
    for (int lane = 0; lane < kLanes; ++lane) inverse[lane] = inverted(scales[2 * pair + lane % 2]);
    for (int column = 0; column < columns; ++column) {
      toCodes(tile + (column * kTokens / 2 + pair) * kLanes, inverse,
              to.values + (pair * columns + column) * kLanes);
    }
  }
  __builtin_memcpy(to.valueScales, scales, sizeof scales);
}

constexpr RequantizeKernels kKernels = {toInt8, toPacked<4>, toPacked<2>};

}  // namespace
}  // namespace tandem::cpu
