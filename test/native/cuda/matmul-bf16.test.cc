#include "cuda/matmul-bf16.h"

#include "check.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

TEST("cuda bf16 matmul: equals float64 for shapes that fill no block, one, and parts of four") {
  struct Shape {
    int rows, outputs, inputs;
  };
  for (const auto& [rows, outputs, inputs] : {Shape{5, 8, 32}, {128, 128, 64}, {130, 136, 160}}) {
    const auto x = randomBf16s(static_cast<std::size_t>(rows) * inputs, 1);
    const auto w = randomBf16s(static_cast<std::size_t>(outputs) * inputs, 2);
    DeviceArray<bf16> left(x), right(w), out(static_cast<std::size_t>(rows) * outputs);
    cuda::matmulBf16({left.data(), right.data(), out.data(), rows, outputs, inputs}, kStream);
    const std::vector<bf16> y = out.read();
    for (int row = 0; row < rows; ++row) {
      for (int output = 0; output < outputs; ++output) {
        double expected = 0, absolute = 0;
        for (int i = 0; i < inputs; ++i) {
          const double part = double{toFloat(x[row * inputs + i])} * toFloat(w[output * inputs + i]);
          expected += part;
          absolute += std::abs(part);
        }
        near(toFloat(y[row * outputs + output]), expected, bf16Error(expected) + 1e-6 * absolute,
             std::to_string(rows) + " x " + std::to_string(outputs) + " x " + std::to_string(inputs));
      }
    }
  }
}

TEST("cuda bf16 matmul: inputs that fill no step are refused") {
  DeviceArray<bf16> any(8);
  throws(
      [&] {
        cuda::matmulBf16({any.data(), any.data(), any.data(), 1, 8, 40}, kStream);
      },
      "multiple of 32");
}
