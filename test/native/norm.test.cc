#include <random>

#include "check.h"
#include "cpu/rms-norm.h"

using namespace tandem;
using namespace tandem::test;

TEST("rms norm: equals float64 for all lengths around the lanes, also in place") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.3f, 2);
  for (const std::size_t length : {1, 16, 31, 32, 33, 64, 2048, 2050}) {
    std::vector<float> x(length), gain(length), out(length);
    for (float& value : x) value = normal(random);
    for (float& value : gain) value = normal(random);
    double squares = 0;
    for (const float value : x) squares += static_cast<double>(value) * value;
    const double rms = std::sqrt(squares / static_cast<double>(length) + 1e-5);
    cpu::rmsNormRow(x, gain, 1e-5f, out.data());
    for (std::size_t i = 0; i < length; ++i) {
      const double expected = x[i] / rms * gain[i];
      near(out[i], expected, 1e-6 * std::abs(expected) + 1e-30, "length " + std::to_string(length));
    }
    cpu::rmsNormRow(x, gain, 1e-5f, x.data());
    isTrue(x == out, "in place gives the same bits");
  }
}

TEST("rms norm: eps keeps a row of zeros at zero, and NaN stays visible") {
  std::vector<float> x(64), gain(64, 1.0f), out(64);
  cpu::rmsNormRow(x, gain, 1e-6f, out.data());
  for (const float value : out) test::equal(value, 0.0f, "zero");
  x[5] = NAN;
  cpu::rmsNormRow(x, gain, 1e-6f, out.data());
  isTrue(std::isnan(out[0]), "NaN reaches the whole row");
}
