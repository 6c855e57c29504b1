#include "cpu/exp2.h"

#include <cmath>

#include "check.h"

using namespace tandem;

TEST("exp2: equals float64 within two units in the last place, down to the smallest normal number") {
  for (int step = 0; step <= 126 * 64; ++step) {
    for (const float y : {-step / 64.0f, -step / 64.0f + 0.001f}) {
      if (y > 0) continue;
      const double expected = std::exp2(double{y});
      test::near(cpu::exp2Of(y), expected, 2 * 0x1p-23 * expected, "2^" + std::to_string(y));
    }
  }
}

TEST("exp2: whole numbers are exact, what is smaller is 0, and NaN stays") {
  for (int n = 0; n >= -126; --n)
    test::equal(cpu::exp2Of(static_cast<float>(n)), std::ldexp(1.0f, n), "power");
  for (const float y : {-126.001f, -1000.0f, -1e30f, -INFINITY}) test::equal(cpu::exp2Of(y), 0.0f, "0");
  test::isTrue(std::isnan(cpu::exp2Of(NAN)), "NaN");
}
