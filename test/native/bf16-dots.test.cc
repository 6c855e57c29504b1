#include "cpu/bf16-dots.h"

#include <array>
#include <cmath>
#include <vector>

#include "check.h"
#include "cuda/random.h"

using namespace tandem;
using tandem::test::randomFloats;

namespace {

std::vector<bf16> randomBf16(std::size_t count, unsigned seed) {
  std::vector<bf16> values;
  for (const float value : randomFloats(static_cast<std::int64_t>(count), seed))
    values.push_back(toBf16(value));
  return values;
}

// Rows [rows][inputs] with a panel, added to `sums` [rows][outputs].
void addTo(std::vector<float>& sums, std::size_t outputs, const std::vector<bf16>& a, std::size_t inputs,
           const std::vector<bf16>& panel) {
  std::array<const bf16*, cpu::kDotRows> from{};
  std::array<float*, cpu::kDotRows> to{};
  const std::size_t rows = sums.size() / outputs;
  for (std::size_t row = 0; row < rows; ++row) {
    from[row] = a.data() + row * inputs;
    to[row] = sums.data() + row * outputs;
  }
  cpu::addDots(static_cast<int>(rows), from.data(), panel.data(), outputs, inputs, to.data());
}

}  // namespace

TEST("bf16 dots: any number of rows and outputs equals float64, and each row is as it is alone") {
  for (const std::size_t outputs : {8, 16, 24, 64, 80, 112}) {
    for (const std::size_t inputs : {2, 32, 130}) {
      const auto panel = randomBf16(inputs * outputs, 1);
      for (std::size_t rows = 1; rows <= cpu::kDotRows; ++rows) {
        const auto a = randomBf16(rows * inputs, 2);
        const auto before = randomFloats(static_cast<std::int64_t>(rows * outputs), 3);
        auto sums = before;
        addTo(sums, outputs, a, inputs, panel);
        for (std::size_t row = 0; row < rows; ++row) {
          std::vector<float> alone(before.begin() + row * outputs, before.begin() + (row + 1) * outputs);
          addTo(alone, outputs, {a.begin() + row * inputs, a.begin() + (row + 1) * inputs}, inputs, panel);
          for (std::size_t n = 0; n < outputs; ++n) {
            double expected = before[row * outputs + n], size = std::abs(expected);
            for (std::size_t k = 0; k < inputs; ++k) {
              const double product =
                  double{toFloat(a[row * inputs + k])} * toFloat(panel[(k / 2 * outputs + n) * 2 + k % 2]);
              expected += product;
              size += std::abs(product);
            }
            test::near(sums[row * outputs + n], expected, 1e-5 * size, "sum");
            test::equal(alone[n], sums[row * outputs + n], "the row alone");
          }
        }
      }
    }
  }
}
