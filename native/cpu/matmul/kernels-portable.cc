// The plain twins of the vector kernels: what they compute, readable, and for processors that have none of
// them.

#include <algorithm>
#include <bit>
#include <cmath>

#include "cpu/matmul/kernels.h"
#include "cpu/matmul/quantize.h"

namespace tandem::cpu {
namespace {

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             Ahead, float* c) {
  for (int row = 0; row < rows; ++row) {
    float* sums = c + row * kPanel;
    if (first) std::fill(sums, sums + kPanel, 0.0f);
    for (std::size_t k = 0; k < inputs; k += 2) {
      const float a0 = toFloat(a[row * stride + k]), a1 = toFloat(a[row * stride + k + 1]);
      const bf16* b = panel + k * kPanel;
      for (int n = 0; n < kPanel; ++n) {
        sums[n] += a0 * toFloat(b[2 * n]);
        sums[n] += a1 * toFloat(b[2 * n + 1]);
      }
    }
  }
}

template <class CodeAt>
void integerDot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
                const float* scales, float* c, CodeAt codeAt) {
  for (int row = 0; row < rows; ++row) {
    float* sums = c + row * kPanel;
    for (std::size_t group = groupBegin; group < groupEnd; ++group) {
      std::int32_t dots[kPanel];
      std::fill(dots, dots + kPanel, a.corrections[row * a.groups + group]);
      for (std::size_t k = group * kGroup; k < (group + 1) * kGroup; ++k) {
        const std::int32_t code = a.codes[row * a.stride + k];
        for (int n = 0; n < kPanel; ++n) dots[n] += code * codeAt(k, n);
      }
      for (int n = 0; n < kPanel; ++n) {
        const float scale = scales[group * kPanel + n] * a.scales[row * a.groups + group];
        sums[n] = std::fma(static_cast<float>(dots[n]), scale, group == 0 ? 0.0f : sums[n]);
      }
    }
  }
}

void int8Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead, float* c) {
  integerDot(rows, a, groupBegin, groupEnd, scales, c,
             [&](std::size_t k, int n) { return std::int32_t{panel[(k / 4 * kPanel + n) * 4 + k % 4]}; });
}

void int4Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
             const std::uint8_t* panel, const float* scales, Ahead, float* c) {
  integerDot(rows, a, groupBegin, groupEnd, scales, c, [&](std::size_t k, int n) {
    const std::uint8_t byte = panel[(k / 8 * kPanel + n) * 4 + k % 4];
    return std::int32_t{k % 8 < 4 ? byte & 15 : byte >> 4};
  });
}

void roundRow(const float* x, std::size_t count, bf16* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = toBf16(x[i]);
}

float quantizeGroup(const float* x, std::size_t count, std::int8_t* codes, std::int32_t* sum) {
  // Without their signs floats compare as integers do, and NaN is the greatest: it must not get lost in a
  // code.
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<std::int32_t>(x[i]) & 0x7fffffff);
  }
  const float scale = std::bit_cast<float>(largest) / 127;
  const float inverse = inverseOf(scale);
  std::int32_t total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    // Rounding of the inverse may carry the largest value a hair beyond 127; NaN goes to -127.
    const float value = std::min(x[i] * inverse, 127.0f);
    const int code = static_cast<int>(nearest(value >= -127 ? value : -127));
    codes[i] = static_cast<std::int8_t>(code);
    total += code;
  }
  std::fill(codes + count, codes + kGroup, std::int8_t{0});
  *sum = total;
  return scale;
}

void swiGlu(const float* gate, const float* up, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

}  // namespace

const Kernels kPortableKernels{4, false, bf16Dot, int8Dot, int4Dot, roundRow, quantizeGroup, swiGlu};

}  // namespace tandem::cpu
