#include "cuda/rms-norm.h"

#include "check.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr float kEps = 1e-5f;

struct NormCase {
  NormCase(int rows, int cols, unsigned seed)
      : rows(rows),
        cols(cols),
        x(randomBf16s(static_cast<std::size_t>(rows) * cols, seed, 2, 0.3f)),
        delta(randomBf16s(x.size(), seed + 1)),
        gain(randomFloats(cols, seed + 2, 0.3f, 1)) {}

  // The rows after adding, and normed, in float64 from the rounded sums.
  void expect(const std::vector<bf16>& added, const std::vector<bf16>& out, const std::string& what) const {
    for (int row = 0; row < rows; ++row) {
      double squares = 0;
      for (int col = 0; col < cols; ++col) squares += std::pow(toFloat(added[row * cols + col]), 2);
      const double inverse = 1 / std::sqrt(squares / cols + kEps);
      for (int col = 0; col < cols; ++col) {
        const double expected = toFloat(added[row * cols + col]) * inverse * gain[col];
        near(toFloat(out[row * cols + col]), expected, bf16Error(expected) + 1e-6, what);
      }
    }
  }

  int rows, cols;
  std::vector<bf16> x, delta;
  std::vector<float> gain;
};

}  // namespace

TEST("cuda rms norm: equals float64 for rows from one access of a thread to eight") {
  for (const int cols : {8, 64, 2048, 2056, 5120, 16384}) {
    const NormCase problem(3, cols, 1);
    DeviceArray<bf16> x(problem.x), out(problem.x.size());
    DeviceArray<float> gain(problem.gain);
    cuda::rmsNorm({x.data(), nullptr, gain.data(), out.data(), 3, cols, kEps}, kStream);
    isTrue(x.read() == problem.x, "x stays as it was");
    problem.expect(problem.x, out.read(), std::to_string(cols) + " columns");
  }
}

TEST("cuda rms norm: adds the residual first, and norms what it has stored") {
  const NormCase problem(2, 264, 4);
  DeviceArray<bf16> x(problem.x), delta(problem.delta), out(problem.x.size());
  DeviceArray<float> gain(problem.gain);
  cuda::rmsNorm({x.data(), delta.data(), gain.data(), out.data(), 2, 264, kEps}, kStream);
  const std::vector<bf16> added = x.read();
  for (std::size_t i = 0; i < added.size(); ++i) {
    test::equal(added[i], toBf16(toFloat(problem.x[i]) + toFloat(problem.delta[i])), "the sum");
  }
  problem.expect(added, out.read(), "with a residual");
}

TEST("cuda rms norm: in place gives the same bits, and a row's are its own") {
  const NormCase problem(5, 640, 9);
  DeviceArray<bf16> x(problem.x), out(problem.x.size());
  DeviceArray<float> gain(problem.gain);
  cuda::rmsNorm({x.data(), nullptr, gain.data(), out.data(), 5, 640, kEps}, kStream);
  cuda::rmsNorm({x.data(), nullptr, gain.data(), x.data(), 5, 640, kEps}, kStream);
  const std::vector<bf16> together = out.read();
  isTrue(x.read() == together, "in place");
  DeviceArray<bf16> alone(std::vector<bf16>(problem.x.end() - 640, problem.x.end()));
  cuda::rmsNorm({alone.data(), nullptr, gain.data(), alone.data(), 1, 640, kEps}, kStream);
  isTrue(alone.read() == std::vector<bf16>(together.end() - 640, together.end()), "the last row alone");
}

TEST("cuda rms norm: NaN reaches its whole row and no other; odd widths are refused") {
  NormCase problem(2, 64, 3);
  problem.x[70] = toBf16(NAN);
  DeviceArray<bf16> x(problem.x);
  DeviceArray<float> gain(problem.gain);
  cuda::rmsNorm({x.data(), nullptr, gain.data(), x.data(), 2, 64, kEps}, kStream);
  const std::vector<bf16> out = x.read();
  for (int i = 0; i < 128; ++i) test::equal(std::isnan(toFloat(out[i])), i >= 64, "NaN");
  throws(
      [&] {
        cuda::rmsNorm({x.data(), nullptr, gain.data(), x.data(), 2, 63, kEps}, kStream);
      },
      "multiple of 8");
}
