#include "cpu/matmul/matmul.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>

#include "check.h"
#include "core/bf16.h"
#include "core/half.h"
#include "core/thread-team.h"
#include "cpu/matmul/kernels.h"
#include "cpu/matmul/pack-group.h"
#include "cuda/random.h"

using namespace tandem;
using tandem::test::randomFloats;

namespace {

struct MatmulProblem {
  std::int64_t rows, inputs, outputs;
};

CheckpointMatrix matrixOf(const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  return {reinterpret_cast<const std::byte*>(values.data()), CheckpointType::f32, rows, cols};
}

Tensor tensorOf(std::vector<float>& values, std::int64_t rows) {
  return {values.data(), rows, rows == 0 ? 0 : static_cast<std::int64_t>(values.size()) / rows};
}

// sum |x| |w| of the dot product: rounding errors are bounded by a part of it.
double magnitude(const float* x, const float* w, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += std::abs(double(x[i]) * w[i]);
  return sum;
}

double dot(const float* x, const float* w, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += double(x[i]) * w[i];
  return sum;
}

// Error a class may make against sum |x| |w|, for normally distributed values.
double toleranceOf(WeightClass weightClass) {
  switch (weightClass) {
    case WeightClass::bf16:
      return 1.0 / 128;  // both operands rounded to 8 bits of mantissa
    case WeightClass::int8:
      return 0.02;
    case WeightClass::int4:
      return 0.15;
  }
  return 0;
}

// x as the kernels see it: rounded to bf16, or to 255 levels of each group of inputs.
std::vector<double> roundedInputs(const std::vector<float>& x, std::int64_t inputs, WeightClass weightClass) {
  std::vector<double> rounded(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (weightClass == WeightClass::bf16) {
      rounded[i] = toFloat(toBf16(x[i]));
      continue;
    }
    const std::size_t column = i % inputs, begin = i - column % cpu::kGroup;
    const std::size_t end = std::min(begin + cpu::kGroup, i - column + inputs);
    float largest = 0;
    for (std::size_t k = begin; k < end; ++k) largest = std::max(largest, std::abs(x[k]));
    const float scale = largest / 127;
    if (scale > 0) rounded[i] = std::nearbyint(x[i] * (1 / scale)) * double(scale);
  }
  return rounded;
}

const std::array kClasses{WeightClass::bf16, WeightClass::int8, WeightClass::int4};
const std::array kProblems{MatmulProblem{1, 2, 1},      MatmulProblem{1, 128, 64},
                           MatmulProblem{2, 130, 65},   MatmulProblem{7, 256, 100},
                           MatmulProblem{16, 704, 256}, MatmulProblem{17, 1000, 70},
                           MatmulProblem{65, 514, 33},  MatmulProblem{300, 64, 129}};

std::vector<float> multiply(Isa isa, ThreadTeam& team, const std::vector<float>& x, const MatmulProblem& p,
                            const Weight& w, std::span<const float> bias = {}) {
  cpu::Workspace workspace;
  std::vector<float> input = x, y(p.rows * p.outputs, NAN);
  cpu::linear(isa, team, workspace, {input.data(), p.rows, p.inputs}, w, bias, {y.data(), p.rows, p.outputs});
  return y;
}

}  // namespace

TEST("matmul: every class and instruction set equals float64 within its rounding") {
  ThreadTeam team(2);
  team.pin(std::array{0, 1});
  for (const MatmulProblem& p : kProblems) {
    const auto x = randomFloats(p.rows * p.inputs, 1), w = randomFloats(p.outputs * p.inputs, 2, 0.05f);
    const auto bias = randomFloats(p.outputs, 3);
    const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
    for (const WeightClass weightClass : kClasses) {
      const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
      for (const Isa isa : availableIsas()) {
        const auto y = multiply(isa, team, x, p, *packed, bias);
        for (std::int64_t row = 0; row < p.rows; ++row) {
          for (std::int64_t n = 0; n < p.outputs; ++n) {
            const float* a = x.data() + row * p.inputs;
            const float* b = w.data() + n * p.inputs;
            test::near(y[row * p.outputs + n], dot(a, b, p.inputs) + bias[n],
                       toleranceOf(weightClass) * magnitude(a, b, p.inputs) + 1e-6, isaName(isa));
          }
        }
      }
    }
  }
}

// The weights' own rounding is taken from products with unit vectors, which are exact; what is left is the
// rounding of the sums, float32 over groups for integers and over pairs for bf16.
TEST("matmul: sums of rounded operands equal float64 within the rounding of float32 sums") {
  ThreadTeam team(1);
  const std::int64_t inputs = 330, outputs = 70;
  const auto w = randomFloats(outputs * inputs, 20);
  const CheckpointMatrix matrix = matrixOf(w, outputs, inputs);
  std::vector<float> identity(inputs * inputs);
  for (std::int64_t i = 0; i < inputs; ++i) identity[i * inputs + i] = 1;
  for (const WeightClass weightClass : kClasses) {
    const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
    const auto weights = multiply(Isa::portable, team, identity, {inputs, inputs, outputs}, *packed);
    for (const std::int64_t rows : {1, 2, 7, 16, 17, 65}) {
      const auto x = randomFloats(rows * inputs, 21);
      const auto rounded = roundedInputs(x, inputs, weightClass);
      for (const Isa isa : availableIsas()) {
        const auto y = multiply(isa, team, x, {rows, inputs, outputs}, *packed);
        for (std::int64_t row = 0; row < rows; ++row) {
          for (std::int64_t n = 0; n < outputs; ++n) {
            double sum = 0, size = 0;
            for (std::int64_t k = 0; k < inputs; ++k) {
              const double product = rounded[row * inputs + k] * double(weights[k * outputs + n]);
              sum += product;
              size += std::abs(product);
            }
            const double bound = weightClass == WeightClass::bf16 ? 1e-5 : 1e-6;
            test::near(y[row * outputs + n], sum, bound * size, isaName(isa));
          }
        }
      }
    }
  }
}

TEST("matmul: NaN and infinity are never rounded to a number") {
  ThreadTeam team(1);
  const MatmulProblem p{3, 300, 66};
  const auto w = randomFloats(p.outputs * p.inputs, 22);
  const auto x = randomFloats(p.rows * p.inputs, 23);
  const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
  for (const WeightClass weightClass : kClasses) {
    const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
    for (const Isa isa : availableIsas()) {
      const auto clean = multiply(isa, team, x, p, *packed);
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        for (const std::int64_t k : {0, 127, 299}) {
          auto spoilt = x;
          spoilt[p.inputs + k] = bad;
          const auto y = multiply(isa, team, spoilt, p, *packed);
          for (std::int64_t n = 0; n < p.outputs; ++n) {
            test::isTrue(!std::isfinite(y[p.outputs + n]), std::string(isaName(isa)) + ": a finite result");
            test::equal(y[n], clean[n], "the row before");
            test::equal(y[2 * p.outputs + n], clean[2 * p.outputs + n], "the row after");
          }
        }
      }
    }
  }
}

TEST("matmul: a weight that is not finite is never rounded to a number") {
  ThreadTeam team(1);
  const MatmulProblem p{2, 300, 66};
  const auto x = randomFloats(p.rows * p.inputs, 23);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const std::int64_t k : {0, 127, 299}) {
      auto w = randomFloats(p.outputs * p.inputs, 22);
      w[p.inputs + k] = bad;
      const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
      for (const WeightClass weightClass : kClasses) {
        const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
        for (const Isa isa : availableIsas()) {
          const auto y = multiply(isa, team, x, p, *packed);
          for (std::int64_t i = 0; i < p.rows * p.outputs; ++i) {
            test::equal(std::isfinite(y[i]), i % p.outputs != 1, std::string(isaName(isa)) + ": finite");
          }
        }
      }
    }
  }
}

TEST("matmul: takes values near the ends of float32's range, and zero") {
  ThreadTeam team(1);
  const MatmulProblem p{4, 256, 40};
  const auto w = randomFloats(p.outputs * p.inputs, 24, 1e-3f);
  auto x = randomFloats(p.rows * p.inputs, 25);
  constexpr std::array kScales{1e35f, 1e-30f, 1e-40f, 0.0f};
  for (std::int64_t i = 0; i < p.rows * p.inputs; ++i) x[i] *= kScales[i / p.inputs];
  const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
  for (const WeightClass weightClass : kClasses) {
    const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
    for (const Isa isa : availableIsas()) {
      const auto y = multiply(isa, team, x, p, *packed);
      for (std::int64_t row = 0; row < p.rows; ++row) {
        for (std::int64_t n = 0; n < p.outputs; ++n) {
          const float* a = x.data() + row * p.inputs;
          const float* b = w.data() + n * p.inputs;
          // Denormal inputs may count as zero.
          const double bound = toleranceOf(weightClass) * magnitude(a, b, p.inputs) + 1e-36;
          test::near(y[row * p.outputs + n], dot(a, b, p.inputs), bound, isaName(isa));
        }
      }
    }
  }
}

// The codes are recovered by multiplying unit vectors, whose quantization is exact; so this measures the
// weights' rounding and nothing else.
TEST("matmul: packing keeps weights within the error of their class") {
  ThreadTeam team(1);
  const MatmulProblem p{300, 300, 70};
  const auto w = randomFloats(p.outputs * p.inputs, 4);
  std::vector<float> identity(p.rows * p.inputs);
  for (std::int64_t i = 0; i < p.rows; ++i) identity[i * p.inputs + i] = 1;
  const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
  for (const WeightClass weightClass : kClasses) {
    const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
    for (const Isa isa : availableIsas()) {
      const auto y = multiply(isa, team, identity, p, *packed);
      double error = 0, power = 0;
      for (std::int64_t k = 0; k < p.inputs; ++k) {
        for (std::int64_t n = 0; n < p.outputs; ++n) {
          const double value = w[n * p.inputs + k], difference = y[k * p.outputs + n] - value;
          error += difference * difference;
          power += value * value;
        }
      }
      const double relative = std::sqrt(error / power);
      const double bound = weightClass == WeightClass::bf16   ? 0.002
                           : weightClass == WeightClass::int8 ? 0.008
                                                              : 0.087;
      test::isTrue(relative < bound,
                   std::string(isaName(isa)) + ": relative rms error " + std::to_string(relative));
    }
  }
}

// Q4_0 of llama.cpp has a half-precision scale for each 32 weights, by which the outermost takes code -8.
TEST("matmul: int4 rounds weights less than Q4_0 does in as many bits, with tails and without") {
  ThreadTeam team(1);
  const MatmulProblem p{512, 512, 64};
  std::vector<float> identity(p.rows * p.inputs);
  for (std::int64_t i = 0; i < p.rows; ++i) identity[i * p.inputs + i] = 1;
  const auto normal = randomFloats(p.outputs * p.inputs, 26, 0.02f);
  auto tailed = normal;
  const auto factors = randomFloats(p.outputs * p.inputs, 27);
  for (std::size_t i = 0; i < tailed.size(); ++i) tailed[i] *= std::exp(0.5f * factors[i]);
  for (const std::vector<float>& w : {normal, tailed}) {
    const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
    const auto packed =
        cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, WeightClass::int4, team);
    test::equal(8.0 * static_cast<double>(packed->bytes()) / static_cast<double>(w.size()), 4.5, "bits");
    const auto ours = multiply(Isa::portable, team, identity, p, *packed);
    double error = 0, theirs = 0;
    for (std::size_t begin = 0; begin < w.size(); begin += 32) {
      const std::span group(w.data() + begin, 32);
      const float outermost = *std::ranges::max_element(group, {}, [](float x) { return std::abs(x); });
      const float scale = outermost / -8;
      for (std::size_t i = 0; i < group.size(); ++i) {
        const std::size_t output = begin / p.inputs, input = begin % p.inputs + i;
        error += std::pow(ours[input * p.outputs + output] - group[i], 2);
        theirs += std::pow(std::clamp(std::nearbyint(group[i] / scale), -8.0f, 7.0f) * scale - group[i], 2);
      }
    }
    test::isTrue(error < 0.97 * theirs, "squared error " + std::to_string(error / theirs) + " of Q4_0's");
  }
}

TEST("matmul: every instruction set packs the same, and what is too small or no number too") {
  auto groups = randomFloats(9 * cpu::kGroup, 28, 0.02f);
  const auto group = [&](std::size_t index) {
    return std::span(groups).subspan(index * cpu::kGroup, cpu::kGroup);
  };
  std::ranges::fill(group(1), 0.0f);
  std::ranges::fill(group(2).first(cpu::kPart), 0.0f);
  for (float& value : group(3)) value *= 1e-37f;
  for (float& value : group(4)) value *= 1e-40f;
  for (float& value : group(5).first(cpu::kPart)) value *= 1e30f;
  group(6)[40] = NAN;
  group(7)[127] = -INFINITY;
  for (float& value : group(8)) value = std::round(value * 100) / 100;
  for (const Isa isa : availableIsas()) {
    const cpu::PackGroup& pack = cpu::packGroupOf(isa);
    for (std::size_t i = 0; i < 9; ++i) {
      std::array<std::uint8_t, cpu::kGroup> codes, expected;
      std::array<std::int8_t, cpu::kParts> factors, expectedFactors;
      const auto same = [&](float scale, float expectedScale) {
        test::isTrue(std::memcmp(&scale, &expectedScale, sizeof scale) == 0 && codes == expected &&
                         factors == expectedFactors,
                     std::string(isaName(isa)) + ": group " + std::to_string(i));
      };
      factors = expectedFactors = {};
      same(pack.int8(group(i).data(), codes.data()),
           cpu::kPortablePackGroup.int8(group(i).data(), expected.data()));
      same(pack.int4(group(i).data(), factors.data(), codes.data()),
           cpu::kPortablePackGroup.int4(group(i).data(), expectedFactors.data(), expected.data()));
      for (const std::uint8_t code : codes) test::isTrue(code < 16, "four bits");
      for (const std::int8_t factor : factors) test::isTrue(std::abs(factor) <= 15, "a factor's range");
    }
  }
}

TEST("matmul: a row alone is bit-equal to the row among others, on any team") {
  const std::array cores{0, 1, 0};
  const MatmulProblem p{37, 704, 200};
  const auto x = randomFloats(p.rows * p.inputs, 5), w = randomFloats(p.outputs * p.inputs, 6);
  const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
  for (const WeightClass weightClass : kClasses) {
    for (const Isa isa : availableIsas()) {
      std::vector<float> expected;
      for (int size = 1; size <= 3; ++size) {
        ThreadTeam team(3);
        team.pin(std::span(cores).first(size));
        const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
        const auto y = multiply(isa, team, x, p, *packed);
        if (expected.empty()) expected = y;
        test::isTrue(std::memcmp(expected.data(), y.data(), y.size() * sizeof(float)) == 0,
                     "team sizes agree");
        for (const std::int64_t row : {0, 1, 5, 6, 36}) {
          const std::vector<float> alone(x.begin() + row * p.inputs, x.begin() + (row + 1) * p.inputs);
          const auto single = multiply(isa, team, alone, {1, p.inputs, p.outputs}, *packed);
          test::isTrue(
              std::memcmp(single.data(), y.data() + row * p.outputs, single.size() * sizeof(float)) == 0,
              std::string(isaName(isa)) + ": a row alone");
        }
      }
    }
  }
}

TEST("matmul: integer classes agree bit for bit between instruction sets but for the activations' rounding") {
  ThreadTeam team(1);
  const MatmulProblem p{9, 384, 128};
  const auto x = randomFloats(p.rows * p.inputs, 7), w = randomFloats(p.outputs * p.inputs, 8);
  const CheckpointMatrix matrix = matrixOf(w, p.outputs, p.inputs);
  for (const WeightClass weightClass : {WeightClass::int8, WeightClass::int4}) {
    const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
    const auto expected = multiply(Isa::portable, team, x, p, *packed);
    for (const Isa isa : availableIsas()) {
      const auto y = multiply(isa, team, x, p, *packed);
      test::isTrue(std::memcmp(expected.data(), y.data(), y.size() * sizeof(float)) == 0, isaName(isa));
    }
  }
}

// int8 weights of 1 and -1 are codes of 255 and 1. Of a part of int4 weights all but one are codes of 15,
// with the greatest factor and the least, or all are codes of 0. Of as many products of one sign, sums in too
// few bits overflow.
TEST("matmul: sums of the greatest codes are exact") {
  ThreadTeam team(1);
  const std::int64_t inputs = 2 * cpu::kGroup, outputs = 70;
  const auto sign = [](std::int64_t pattern, std::int64_t k) {
    return pattern % 3 == 0 ? 1.0f : pattern % 3 == 1 ? -1.0f : k % 2 == 0 ? 1.0f : -1.0f;
  };
  for (const WeightClass weightClass : {WeightClass::int8, WeightClass::int4}) {
    std::vector<float> w(outputs * inputs);
    for (std::int64_t n = 0; n < outputs; ++n) {
      for (std::int64_t k = 0; k < inputs; ++k) {
        const bool least = weightClass == WeightClass::int4 && k % cpu::kPart == cpu::kPart - 1;
        const float most = weightClass == WeightClass::int4 ? (n % 4 < 2 ? 7 : -8) : 1;
        // The codes of int4 take the sign of the greatest weight: those of a row of -7 and 8 are 15 too.
        const std::int64_t pattern = weightClass == WeightClass::int4 ? n % 2 : n;
        w[n * inputs + k] = sign(pattern, k) * (least ? -8 : most);
      }
    }
    const CheckpointMatrix matrix = matrixOf(w, outputs, inputs);
    const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, weightClass, team);
    for (std::int64_t rows = 1; rows <= 6; ++rows) {
      std::vector<float> x(rows * inputs);
      for (std::int64_t i = 0; i < rows * inputs; ++i) x[i] = sign(i / inputs, i % inputs);
      for (const Isa isa : availableIsas()) {
        const auto y = multiply(isa, team, x, {rows, inputs, outputs}, *packed);
        for (std::int64_t i = 0; i < rows * outputs; ++i) {
          const float* a = x.data() + i / outputs * inputs;
          const float* b = w.data() + i % outputs * inputs;
          test::near(y[i], dot(a, b, inputs), 1e-6 * magnitude(a, b, inputs), isaName(isa));
        }
      }
    }
  }
}

TEST("matmul: activations get the same codes from every instruction set") {
  auto x = randomFloats(3 * cpu::kGroup, 33);
  // Halfway between two of bf16, below and above; the last value that is finite there; and what is no number.
  const std::array special{1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f, INFINITY,
                           -INFINITY,   NAN,         0.0f,         -0.0f};
  std::copy(special.begin(), special.end(), x.begin() + 2 * cpu::kGroup);
  x[cpu::kGroup + 5] = NAN;
  for (const Isa isa : availableIsas()) {
    const cpu::Kernels& kernels = cpu::kernelsOf(isa);
    for (const std::size_t count : {1, 7, 8, 15, 16, 17, 300, 3 * cpu::kGroup}) {
      std::vector<bf16> rounded(count + 1, 7), expected(count + 1, 7);
      kernels.roundRow(x.data() + x.size() - count, count, rounded.data());
      cpu::kPortableKernels.roundRow(x.data() + x.size() - count, count, expected.data());
      test::isTrue(rounded == expected, std::string(isaName(isa)) + ": rounds to bf16");
    }
    for (const std::size_t first : {0, cpu::kGroup, 2 * cpu::kGroup}) {
      for (const std::size_t count : {1, 31, 64, 127, cpu::kGroup}) {
        std::array<std::int8_t, cpu::kGroup> codes{}, expected{};
        codes.fill(1);
        std::int32_t sums[cpu::kParts], expectedSums[cpu::kParts];
        const float scale = kernels.quantizeGroup(x.data() + first, count, codes.data(), sums);
        const float expectedScale =
            cpu::kPortableKernels.quantizeGroup(x.data() + first, count, expected.data(), expectedSums);
        test::isTrue(std::memcmp(&scale, &expectedScale, sizeof scale) == 0 && codes == expected &&
                         std::ranges::equal(sums, expectedSums),
                     std::string(isaName(isa)) + ": quantizes " + std::to_string(count));
      }
    }
  }
}

TEST("matmul: linearAdd adds to what is there") {
  ThreadTeam team(2);
  team.pin(std::array{0, 1});
  const std::int64_t rows = 11, inputs = 96, outputs = 75;
  auto x = randomFloats(rows * inputs, 9);
  const auto w = randomFloats(outputs * inputs, 10), bias = randomFloats(outputs, 12);
  const CheckpointMatrix matrix = matrixOf(w, outputs, inputs);
  const auto packed = cpu::packWeight(std::span(&matrix, 1), WeightLayout::stacked, WeightClass::int8, team);
  for (const Isa isa : availableIsas()) {
    cpu::Workspace workspace;
    std::vector<float> plain(rows * outputs), added(rows * outputs, 2.5f);
    cpu::linear(isa, team, workspace, tensorOf(x, rows), *packed, bias, tensorOf(plain, rows));
    cpu::linearAdd(isa, team, workspace, tensorOf(x, rows), *packed, bias, tensorOf(added, rows));
    for (std::size_t i = 0; i < plain.size(); ++i) test::equal(added[i], 2.5f + plain[i], "added");
  }
}

TEST("matmul: stacked matrices are multiplied as each alone") {
  ThreadTeam team(1);
  const MatmulProblem p{3, 200, 150};
  const std::array<std::int64_t, 3> heights{90, 1, 59};
  const auto x = randomFloats(p.rows * p.inputs, 30), w = randomFloats(p.outputs * p.inputs, 31);
  std::vector<CheckpointMatrix> parts;
  std::int64_t first = 0;
  for (const std::int64_t height : heights) {
    parts.push_back(matrixOf(w, height, p.inputs));
    parts.back().data += first * p.inputs * sizeof(float);
    first += height;
  }
  for (const WeightClass weightClass : kClasses) {
    const auto stacked = cpu::packWeight(parts, WeightLayout::stacked, weightClass, team);
    test::equal(stacked->outputs(), p.outputs, "outputs");
    const auto together = multiply(availableIsas().front(), team, x, p, *stacked);
    std::int64_t begin = 0;
    for (const CheckpointMatrix& part : parts) {
      const auto packed = cpu::packWeight(std::span(&part, 1), WeightLayout::stacked, weightClass, team);
      const auto alone = multiply(availableIsas().front(), team, x, {p.rows, p.inputs, part.rows}, *packed);
      for (std::int64_t row = 0; row < p.rows; ++row) {
        for (std::int64_t n = 0; n < part.rows; ++n) {
          test::equal(together[row * p.outputs + begin + n], alone[row * part.rows + n], "output");
        }
      }
      begin += part.rows;
    }
  }
}

// Against gate and up multiplied alone, so that only the epilogue's own rounding is left; gates far from zero
// included, where silu is its argument or nothing.
TEST("matmul: linearSwiGlu is silu of the gate times up, for every class") {
  ThreadTeam team(2);
  team.pin(std::array{0, 1});
  const std::int64_t rows = 11, inputs = 96, outputs = 75;
  auto x = randomFloats(rows * inputs, 9);
  const auto gate = randomFloats(outputs * inputs, 10), up = randomFloats(outputs * inputs, 11, 0.2f);
  auto bias = randomFloats(2 * outputs, 12);
  bias[3] = 150;
  bias[4] = -150;
  const std::array parts{matrixOf(gate, outputs, inputs), matrixOf(up, outputs, inputs)};
  for (const WeightClass weightClass : kClasses) {
    const auto both = cpu::packWeight(parts, WeightLayout::gated, weightClass, team);
    test::equal(both->outputs(), 2 * outputs, "gate and up outputs");
    const auto gateAlone =
        cpu::packWeight(std::span(parts).first(1), WeightLayout::stacked, weightClass, team);
    const auto upAlone = cpu::packWeight(std::span(parts).last(1), WeightLayout::stacked, weightClass, team);
    for (const Isa isa : availableIsas()) {
      cpu::Workspace workspace;
      std::vector<float> y(rows * outputs, NAN);
      cpu::linearSwiGlu(isa, team, workspace, tensorOf(x, rows), *both, bias, tensorOf(y, rows));
      const std::span<const float> biases = bias;
      const MatmulProblem p{rows, inputs, outputs};
      const auto gates = multiply(isa, team, x, p, *gateAlone, biases.first(outputs));
      const auto ups = multiply(isa, team, x, p, *upAlone, biases.last(outputs));
      for (std::size_t i = 0; i < y.size(); ++i) {
        const double g = gates[i], expected = g / (1 + std::exp(-g)) * ups[i];
        test::near(y[i], expected, 1e-6 * std::abs(expected) + 1e-35, isaName(isa));
      }
    }
  }
}

TEST("matmul: reads fp8 checkpoints, every pattern of them, block by block") {
  std::vector<std::uint8_t> bits(256);
  for (int i = 0; i < 256; ++i) bits[i] = static_cast<std::uint8_t>(i);
  // In two rows of 128, of which the second is that of the negative patterns.
  const std::vector<float> scales{1, 2, 3, 0.5f, 0.25f, 8};
  const CheckpointMatrix fp8{
      reinterpret_cast<const std::byte*>(bits.data()), CheckpointType::e4m3, 2, 128, {scales.data(), 1, 50}};
  std::vector<float> row(128);
  for (int i = 0; i < 2; ++i) {
    readCheckpointRow(fp8, i, row);
    for (int j = 0; j < 127; ++j) {
      const double magnitude = j < 8 ? std::ldexp(j, -9) : std::ldexp(8 + j % 8, j / 8 - 10);
      test::equal(row[j], (i == 0 ? 1 : -1) * magnitude * scales[3 * i + j / 50],
                  "pattern " + std::to_string(128 * i + j));
    }
    test::isTrue(std::isnan(row[127]), "the largest pattern is no number");
  }
}

TEST("matmul: reads f16 and bf16 checkpoints, unaligned") {
  ThreadTeam team(1);
  const MatmulProblem p{1, 4, 2};
  const std::vector<float> expected{1, -2, 0.5f, 65504, 0, 3, 6.103515625e-5f, 5.9604645e-8f};
  const std::array<std::uint16_t, 8> half{0x3c00, 0xc000, 0x3800, 0x7bff, 0x0000, 0x4200, 0x0400, 0x0001};
  std::vector<std::byte> bytes(17);
  std::memcpy(bytes.data() + 1, half.data(), 16);
  const CheckpointMatrix f16{bytes.data() + 1, CheckpointType::f16, 2, 4};
  std::array<float, 4> row{};
  readCheckpointRow(f16, 0, row);
  for (int i = 0; i < 4; ++i) test::equal(row[i], expected[i], "f16 value");
  readCheckpointRow(f16, 1, row);
  for (int i = 0; i < 4; ++i) test::equal(row[i], expected[4 + i], "f16 value, subnormal too");
  const auto packed = cpu::packWeight(std::span(&f16, 1), WeightLayout::stacked, WeightClass::bf16, team);
  const auto y = multiply(Isa::portable, team, {1, 1, 1, 0}, p, *packed);
  test::near(y[0], -0.5, 1e-6, "sum of the first row");
}

TEST("matmul: names what does not fit") {
  ThreadTeam team(1);
  const auto w = randomFloats(64, 13);
  const std::array parts{matrixOf(w, 4, 8), matrixOf(w, 2, 16)};
  test::throws([&] { cpu::packWeight(parts, WeightLayout::stacked, WeightClass::int8, team); },
               "equal inputs");
  test::equal(
      multiply(Isa::portable, team, {}, {0, 8, 4},
               *cpu::packWeight(std::span(parts).first(1), WeightLayout::stacked, WeightClass::int8, team))
          .size(),
      std::size_t{0}, "no rows");
}
