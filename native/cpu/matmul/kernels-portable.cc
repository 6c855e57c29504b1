// What the vector kernels compute, for processors that have none of them.

#include <algorithm>
#include <bit>
#include <cmath>

#include "cpu/bf16-dots.h"
#include "cpu/matmul/kernels.h"
#include "cpu/matmul/quantize.h"
#include "cpu/portable-vectors.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             Ahead, float* c) {
  if (first) std::fill(c, c + rows * kPanel, 0.0f);
  const bf16* from[kDotRows];
  float* sums[kDotRows];
  for (int row = 0; row < rows; ++row) {
    from[row] = a + row * stride;
    sums[row] = c + row * kPanel;
  }
  addDots(rows, from, panel, kPanel, inputs, sums);
}

// Four bytes in each lane of 32 bits, as int16: the first and the third, the second and the fourth.
struct Fours {
  [[gnu::always_inline]] explicit Fours(Words words)
      : even(reinterpret_cast<Shorts>(words) << 8 >> 8), odd(reinterpret_cast<Shorts>(words) >> 8) {}
  Shorts even, odd;
};

// sums + the two halves of each lane
[[gnu::always_inline]] inline Integers addHalves(Shorts halves, Integers sums) {
  const auto both = reinterpret_cast<Integers>(halves);
  return sums + (both << 16 >> 16) + (both >> 16);
}

// Each lane is one output's sum over four inputs at a time. Weights less their zero point make a product of
// at most 127 * 128: an int16 holds two.
struct Int8Dot {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel;

  template <int kRows, int kVectors>
  [[gnu::always_inline]] static void sum(const QuantizedRows& a, const IntegerPanel& panel,
                                         Integers (&dots)[kRows][kVectors]) {
    unroll<kRows>([&](auto row) { unroll<kVectors>([&](auto v) { dots[row][v] = Integers{}; }); });
    const std::int8_t* codes = a.codes;
    const std::uint8_t* b = panel.codes;
    for (int step = 0; step < kGroup / 4; ++step, codes += 4, b += 4 * kPanel) {
      Shorts even[kVectors], odd[kVectors];
      unroll<kVectors>([&](auto v) {
        const Fours weights(load<Words>(b + v * 16) ^ 0x80808080u);
        even[v] = weights.even, odd[v] = weights.odd;
      });
      unroll<kRows>([&](auto row) {
        const Fours inputs(loadToAll(codes + row * a.stride));
        unroll<kVectors>([&](auto v) {
          dots[row][v] = addHalves(inputs.even * even[v] + inputs.odd * odd[v], dots[row][v]);
        });
      });
    }
  }
};

// Each lane is one output's sum over eight inputs at a time. A product is at most 127 * 15: an int16
// holds those of a part, of which each half of a lane has 16.
struct Int4Dot {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / 2;

  template <int kRows, int kVectors>
  [[gnu::always_inline]] static void sum(const QuantizedRows& a, const IntegerPanel& panel,
                                         Integers (&dots)[kRows][kVectors]) {
    unroll<kRows>([&](auto row) { unroll<kVectors>([&](auto v) { dots[row][v] = Integers{}; }); });
    const std::int8_t* codes = a.codes;
    const std::uint8_t* b = panel.codes;
    for (int part = 0; part < kParts; ++part) {
      Shorts sums[kRows][kVectors] = {};
      for (int k = 0; k < kPart; k += 8, codes += 8, b += 4 * kPanel) {
        Shorts weights[kVectors][4];
        unroll<kVectors>([&](auto v) {
          const Halves nibbles = load<Halves>(b + v * 16);
          unroll<4>([&](auto i) { weights[v][i] = reinterpret_cast<Shorts>(nibbles >> 4 * i & 15); });
        });
        unroll<kRows>([&](auto row) {
          const Fours low(loadToAll(codes + row * a.stride)), high(loadToAll(codes + row * a.stride + 4));
          unroll<kVectors>([&](auto v) {
            sums[row][v] += low.even * weights[v][0] + high.even * weights[v][1] + low.odd * weights[v][2] +
                            high.odd * weights[v][3];
          });
        });
      }
      Integers factor[kVectors];
      unroll<kVectors>([&](auto v) {
        factor[v] = load<Integers>(panel.factors + v * 4 * kParts) << (24 - 8 * part) >> 24;
      });
      unroll<kRows>([&](auto row) {
        const Integers correction = Integers{} + a.corrections[row * a.groups * kParts + part];
        unroll<kVectors>([&](auto v) { dots[row][v] += addHalves(sums[row][v], correction) * factor[v]; });
      });
    }
  }
};

// The sums of a group are whole numbers, exact in any order; groups follow one another, rounded as on the
// other instruction sets.
template <class Dot>
void integerDot(int rows, const QuantizedRows& all, const IntegerPanel& panel, std::size_t groups, bool first,
                Ahead, float* c) {
  byGroups<4>(rows, [&](auto count, int firstRow) {
    constexpr int kVectors = tileVectors(count);
    for (std::size_t group = 0; group < groups; ++group) {
      const QuantizedRows a = all.from(firstRow, group);
      for (int at = 0; at < kPanel; at += kVectors * 4) {
        Integers dots[count][kVectors];
        const IntegerPanel block = panel.from(group, at, Dot::kGroupBytes);
        Dot::sum(a, block, dots);
        unroll<count>([&](auto row) {
          const Floats rowScale = Floats{} + a.scales[row * a.groups];
          float* sums = c + (firstRow + row) * kPanel + at;
          unroll<kVectors>([&](auto v) {
            const Floats scale = load<Floats>(block.scales + v * 4) * rowScale;
            const Floats before = first && group == 0 ? Floats{} : load<Floats>(sums + v * 4);
            store(fusedMultiplyAdd(__builtin_convertvector(dots[row][v], Floats), scale, before),
                  sums + v * 4);
          });
        });
      }
    }
  });
}

void roundRow(const float* x, std::size_t count, bf16* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = toBf16(x[i]);
}

float quantizeGroup(const float* x, std::size_t count, std::int8_t* codes, std::int32_t (&sums)[kParts]) {
  // Without their signs floats compare as integers do, and NaN is the greatest: it must not get lost in a
  // code.
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<std::int32_t>(x[i]) & 0x7fffffff);
  }
  const float scale = std::bit_cast<float>(largest) / 127;
  const float inverse = inverseOf(scale);
  std::fill(sums, sums + kParts, 0);
  for (std::size_t i = 0; i < count; ++i) {
    // Rounding of the inverse may carry the largest value a hair beyond 127; NaN goes to -127.
    const float value = std::min(x[i] * inverse, 127.0f);
    const int code = static_cast<int>(nearest(value >= -127 ? value : -127));
    codes[i] = static_cast<std::int8_t>(code);
    sums[i / kPart] += code;
  }
  std::fill(codes + count, codes + kGroup, std::int8_t{0});
  return scale;
}

void swiGlu(const float* gate, const float* up, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

}  // namespace

const Kernels kPortableKernels{
    4, false, bf16Dot, integerDot<Int8Dot>, integerDot<Int4Dot>, nullptr, roundRow, quantizeGroup, swiGlu};

}  // namespace tandem::cpu
