#include "cuda/swiglu.h"

#include "check.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

TEST("cuda swiglu: equals float64 with and without biases, for rows beyond one block") {
  for (const int cols : {8, 96, 2056}) {
    for (const bool biased : {false, true}) {
      const int rows = 3;
      const auto gateUp = randomBf16s(static_cast<std::size_t>(rows) * 2 * cols, 1, 3);
      const auto bias = randomFloats(2 * cols, 2);
      DeviceArray<bf16> in(gateUp), out(static_cast<std::size_t>(rows) * cols);
      DeviceArray<float> biases(bias);
      cuda::swiGlu({in.data(), biased ? biases.data() : nullptr, out.data(), rows, cols}, kStream);
      const std::vector<bf16> y = out.read();
      for (int row = 0; row < rows; ++row) {
        for (int col = 0; col < cols; ++col) {
          const bf16* gates = gateUp.data() + row * 2 * cols;
          const double gate = toFloat(gates[col]) + (biased ? bias[col] : 0);
          const double up = toFloat(gates[cols + col]) + (biased ? bias[cols + col] : 0);
          const double expected = gate / (1 + std::exp(-gate)) * up;
          near(toFloat(y[row * cols + col]), expected, bf16Error(expected) + 1e-5, "y");
        }
      }
    }
  }
}

TEST("cuda swiglu: very negative gates give zero and not NaN") {
  std::vector<bf16> gateUp(16, toBf16(2));
  for (int i = 0; i < 8; ++i) gateUp[i] = toBf16(-200.0f * (i + 1));
  DeviceArray<bf16> in(gateUp), out(8);
  cuda::swiGlu({in.data(), nullptr, out.data(), 1, 8}, kStream);
  for (const bf16 y : out.read()) near(toFloat(y), 0, 1e-30, "y");
}
