#include "cuda/matmul-int8.h"

#include <set>

#include "check.h"
#include "cuda/int8-weight.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

cuda::Int8Weight packed(const std::vector<float>& w, std::int64_t outputs, std::int64_t inputs) {
  const CheckpointMatrix matrix{reinterpret_cast<const std::byte*>(w.data()), CheckpointType::f32, outputs,
                                inputs};
  return cuda::packInt8({&matrix, 1});
}

double valueOf(const cuda::Int8Weight& w, std::int64_t row, std::int64_t col) {
  return static_cast<double>(w.codes[cuda::int8CodeIndex(w.paddedInputs, row, col)]) *
         w.scales[cuda::int8ScaleIndex(w.paddedInputs, row, col)];
}

struct MatmulCase {
  MatmulCase(std::int64_t rows, int outputs, int inputs)
      : rows(rows),
        outputs(outputs),
        inputs(inputs),
        weight(packed(randomFloats(static_cast<std::size_t>(outputs) * inputs, 1), outputs, inputs)),
        x(randomBf16s(static_cast<std::size_t>(rows) * inputs, 2)),
        bias(randomFloats(outputs, 3)) {}

  template <class T>
  std::vector<T> run(std::vector<T> y, cuda::Store store, bool biased, std::int64_t first = 0,
                     std::int64_t count = -1) {
    DeviceArray<bf16> in(x);
    DeviceArray<std::int8_t> codes(weight.codes);
    DeviceArray<float> scales(weight.scales), biases(bias);
    DeviceArray<T> out(std::move(y));
    cuda::matmulInt8(
        {in.data() + first * inputs, codes.data(), scales.data(), biased ? biases.data() : nullptr,
         out.data(), store, count < 0 ? rows : count, outputs, inputs},
        kStream);
    return out.read();
  }

  struct Expected {
    double value, tolerance;
  };
  Expected expected(std::int64_t row, int output, bool biased) const {
    double sum = biased ? bias[output] : 0, absolute = 0;
    for (int i = 0; i < inputs; ++i) {
      const double part = valueOf(weight, output, i) * toFloat(x[row * inputs + i]);
      sum += part;
      absolute += std::abs(part);
    }
    return {sum, 1e-6 * absolute + 1e-6};
  }

  std::int64_t rows;
  int outputs, inputs;
  cuda::Int8Weight weight;
  std::vector<bf16> x;
  std::vector<float> bias;
};

}  // namespace

TEST("cuda int8 weight: every code has a place of its own, and rounds to the nearest step") {
  const std::int64_t outputs = 40, inputs = 200;
  const std::vector<float> w = randomFloats(outputs * inputs, 7);
  const cuda::Int8Weight weight = packed(w, outputs, inputs);
  test::equal(weight.paddedOutputs, std::int64_t{64}, "outputs");
  test::equal(weight.paddedInputs, std::int64_t{256}, "inputs");
  std::set<std::int64_t> places, scales;
  for (std::int64_t row = 0; row < 64; ++row) {
    for (std::int64_t col = 0; col < 256; ++col) {
      places.insert(cuda::int8CodeIndex(256, row, col));
      scales.insert(cuda::int8ScaleIndex(256, row, col));
      if (row >= outputs || col >= inputs) {
        test::equal(int{weight.codes[cuda::int8CodeIndex(256, row, col)]}, 0, "padding");
      } else {
        const float step = weight.scales[cuda::int8ScaleIndex(256, row, col)];
        near(valueOf(weight, row, col), w[row * inputs + col], 0.5001 * step, "value");
      }
    }
  }
  isTrue(places.size() == 64 * 256 && *places.rbegin() == 64 * 256 - 1, "codes fill their array");
  isTrue(scales.size() == 64 * 2 && *scales.rbegin() == 64 * 2 - 1, "scales fill theirs");
  throws(
      [&] {
        const CheckpointMatrix parts[] = {{nullptr, CheckpointType::f32, 1, 8},
                                          {nullptr, CheckpointType::f32, 1, 16}};
        cuda::packInt8(parts);
      },
      "equal inputs");
}

TEST("cuda int8 matmul: equals float64 for padded shapes and rows around the tiles") {
  for (const auto& [outputs, inputs] : {std::pair{32, 128}, {40, 200}, {16, 1288}}) {
    for (const std::int64_t rows : {1, 8, 9, 19}) {
      MatmulCase problem(rows, outputs, inputs);
      const auto y = problem.run(std::vector<float>(rows * outputs, NAN), cuda::Store::float32, rows > 1);
      for (std::int64_t row = 0; row < rows; ++row) {
        for (int output = 0; output < outputs; ++output) {
          const auto expected = problem.expected(row, output, rows > 1);
          near(y[row * outputs + output], expected.value, expected.tolerance,
               std::to_string(rows) + " x " + std::to_string(outputs) + " x " + std::to_string(inputs));
        }
      }
    }
  }
}

TEST("cuda int8 matmul: stores bf16, or adds to what is there") {
  MatmulCase problem(3, 32, 256);
  const std::vector<bf16> before = randomBf16s(96, 4);
  const auto stored = problem.run(before, cuda::Store::bf16, true);
  const auto added = problem.run(before, cuda::Store::add, true);
  for (int i = 0; i < 96; ++i) {
    const auto expected = problem.expected(i / 32, i % 32, true);
    near(toFloat(stored[i]), expected.value, bf16Error(expected.value) + 1e-4, "stored");
    const double sum = expected.value + toFloat(before[i]);
    near(toFloat(added[i]), sum, bf16Error(sum) + 1e-4, "added");
  }
}

TEST("cuda int8 matmul: a row's bits do not depend on the rows beside it") {
  MatmulCase problem(19, 32, 640);
  const auto together = problem.run(std::vector<float>(19 * 32), cuda::Store::float32, true);
  for (const std::int64_t row : {0, 7, 8, 18}) {
    const auto alone = problem.run(std::vector<float>(32), cuda::Store::float32, true, row, 1);
    isTrue(std::equal(alone.begin(), alone.end(), together.begin() + row * 32), "row " + std::to_string(row));
  }
}
