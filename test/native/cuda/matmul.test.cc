#include "cuda/matmul.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <span>
#include <string>

#include "check.h"
#include "core/half.h"
#include "cuda/matmul-mma.h"
#include "cuda/matmul-wgmma.h"
#include "cuda/rows-map.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr int kSms = 4;

using Kernel = std::function<void(const cuda::MatmulProblem&, int)>;

// Those that the device has, and all their tiles.
std::vector<Kernel> kernels(std::int64_t rows, WeightClass weightClass, int granularity = 1) {
  std::vector<Kernel> all = {
      [](const cuda::MatmulProblem& problem, int sms) { cuda::matmulByMma(problem, sms, kStream); }};
  if (!cuda::hasWgmma()) return all;
  const std::size_t plans = cuda::possiblePlans({rows, granularity, granularity, 2, weightClass}, 1).size();
  for (std::size_t i = 0; i < plans; ++i) {
    all.push_back([i](const cuda::MatmulProblem& problem, int sms) {
      cuda::matmulByWgmma(problem, cuda::possiblePlans(cuda::shapeOf(problem), sms)[i], kStream);
    });
  }
  return all;
}

constexpr WeightClass kClasses[] = {WeightClass::bf16, WeightClass::int8, WeightClass::int4};

float inverseOf(float scale) { return std::abs(scale) >= 0x1p-126f ? 1 / scale : 0; }
float int4Code(float value, float scale) {
  return std::clamp(std::nearbyint(value * inverseOf(scale)), -8.0f, 7.0f);
}

// In the order of lanes with four values each.
float int4Error(std::span<const float> group, float scale) {
  float errors[8] = {};
  for (std::size_t i = 0; i < group.size(); ++i) {
    const float difference = std::fma(-int4Code(group[i], scale), scale, group[i]);
    errors[i / 4] = std::fma(difference, difference, errors[i / 4]);
  }
  for (int lanes = 4; lanes > 0; lanes /= 2) {
    for (int lane = 0; lane < lanes; ++lane) errors[lane] += errors[lane + lanes];
  }
  return errors[0];
}

// That leaves the least squared error among that of the largest value and some smaller ones.
float int4Scale(std::span<const float> group) {
  const auto [least, greatest] = std::ranges::minmax(group);
  const float largest = -std::min(least, 0.0f) > std::max(greatest, 0.0f) ? least : std::max(greatest, 0.0f);
  float best = 0, bestError = INFINITY;
  for (int step = 0; step < 8; ++step) {
    const float scale = toFloat(toBf16(largest / (-8 + 0.25f * static_cast<float>(step))));
    if (const float error = int4Error(group, scale); error < bestError) {
      best = scale;
      bestError = error;
    }
  }
  return best;
}

// What a packed weight stands for: bf16, or codes times scales, rounded to bf16, of 64 inputs each, int4
// of 32.
std::vector<float> meaning(const std::vector<float>& w, std::int64_t inputs, WeightClass weightClass) {
  const std::int64_t together = weightClass == WeightClass::int4 ? 32 : 64;
  std::vector<float> result(w.size());
  for (std::size_t row = 0; row < w.size(); row += inputs) {
    for (std::int64_t begin = 0; begin < inputs; begin += together) {
      const std::span group(w.data() + row + begin, std::min<std::int64_t>(inputs - begin, together));
      float largest = 0;
      for (const float value : group) largest = std::max(largest, std::abs(value));
      const float scale =
          weightClass == WeightClass::int4 ? int4Scale(group) : toFloat(toBf16(largest / 127));
      for (std::size_t i = 0; i < group.size(); ++i) {
        const float code = weightClass == WeightClass::int4 ? int4Code(group[i], scale)
                                                            : std::nearbyint(group[i] * inverseOf(scale));
        result[row + begin + i] = toFloat(toBf16(weightClass == WeightClass::bf16 ? group[i] : code * scale));
      }
    }
  }
  return result;
}

struct Problem {
  Problem(std::int64_t rows, std::int64_t outputs, std::int64_t inputs, WeightClass weightClass,
          WeightLayout layout = WeightLayout::stacked)
      : rows(rows),
        outputs(outputs),
        inputs(inputs),
        layout(layout),
        x(randomBf16s(static_cast<std::size_t>(rows * inputs), 1)),
        w(randomFloats(static_cast<std::size_t>(outputs * inputs), 2)),
        bias(randomFloats(static_cast<std::size_t>(outputs), 3)),
        means(meaning(w, inputs, weightClass)) {
    const std::int64_t first = layout == WeightLayout::gated ? outputs / 2 : outputs / 3;
    const auto* bytes = reinterpret_cast<const std::byte*>(w.data());
    const CheckpointMatrix parts[] = {
        {bytes, CheckpointType::f32, first, inputs},
        {bytes + first * inputs * sizeof(float), CheckpointType::f32, outputs - first, inputs}};
    packed = cuda::packWeight(parts, layout, weightClass, kStream);
  }

  const cuda::CudaWeight& weight() const { return static_cast<const cuda::CudaWeight&>(*packed); }
  std::int64_t width() const { return layout == WeightLayout::gated ? outputs / 2 : outputs; }

  // Rows [first, first + count), on what `before` holds.
  template <class T>
  std::vector<T> run(cuda::Epilogue epilogue, bool biased, std::vector<T> before, std::int64_t first = 0,
                     std::int64_t count = -1, int sms = kSms) const {
    if (count < 0) count = rows;
    DeviceArray<bf16> in(std::vector<bf16>(x.begin() + first * inputs, x.begin() + (first + count) * inputs));
    DeviceArray<float> biases(bias);
    before.resize(count * width());
    DeviceArray<T> out(std::move(before));
    cuda::matmul({in.data(), &weight(), biased ? biases.data() : nullptr, out.data(), epilogue, count}, sms,
                 kStream);
    return out.read();
  }
  // By one kernel.
  std::vector<bf16> runBy(const Kernel& kernel, cuda::Epilogue epilogue, std::vector<bf16> before) const {
    DeviceArray<bf16> in(x), out(std::move(before));
    DeviceArray<float> biases(bias);
    kernel({in.data(), weight().tiles(), biases.data(), out.data(), epilogue, rows}, kSms);
    return out.read();
  }
  std::vector<float> logitsBy(const Kernel& kernel, int sms = kSms) const {
    DeviceArray<bf16> in(x);
    DeviceArray<float> biases(bias), out(std::vector<float>(rows * outputs, NAN));
    kernel({in.data(), weight().tiles(), biases.data(), out.data(), cuda::Epilogue::logits, rows}, sms);
    return out.read();
  }
  std::vector<float> logits(std::int64_t first = 0, std::int64_t count = -1, int sms = kSms) const {
    return run(cuda::Epilogue::logits, true, std::vector<float>(rows * outputs, NAN), first, count, sms);
  }

  struct Expected {
    double value, tolerance;
  };
  // In float64; the chain of sums may be off by a few units of the last place of what it adds up.
  Expected expected(std::int64_t row, std::int64_t output, bool biased) const {
    double sum = biased ? bias[output] : 0, absolute = 0;
    for (std::int64_t i = 0; i < inputs; ++i) {
      const double part = double{means[output * inputs + i]} * toFloat(x[row * inputs + i]);
      sum += part;
      absolute += std::abs(part);
    }
    return {sum, 1e-6 * absolute + 1e-6};
  }

  std::int64_t rows, outputs, inputs;
  WeightLayout layout;
  std::vector<bf16> x;
  std::vector<float> w, bias, means;
  std::unique_ptr<Weight> packed;
};

void expectLogits(const Problem& problem, const std::vector<float>& y, bool biased, const std::string& what) {
  for (std::int64_t row = 0; row < problem.rows; ++row) {
    for (std::int64_t output = 0; output < problem.outputs; ++output) {
      const auto expected = problem.expected(row, output, biased);
      near(y[row * problem.outputs + output], expected.value, expected.tolerance,
           [&] { return what + ", row " + std::to_string(row) + ", output " + std::to_string(output); });
    }
  }
}

std::string shapeOf(const Problem& problem) {
  return std::to_string(problem.rows) + " x " + std::to_string(problem.outputs) + " x " +
         std::to_string(problem.inputs);
}

}  // namespace

TEST("cuda matmul: equals float64 for outputs and inputs that fill no tile, and rows around the tiles") {
  for (const WeightClass weightClass : kClasses) {
    for (const auto& [outputs, inputs] : {std::pair{64, 64}, {3, 8}, {72, 200}, {136, 136}}) {
      for (const int rows : {1, 17, 70}) {
        const Problem problem(rows, outputs, inputs, weightClass);
        const bool biased = rows > 1;
        const auto y = problem.run(cuda::Epilogue::logits, biased, std::vector<float>(rows * outputs, NAN));
        expectLogits(problem, y, biased, shapeOf(problem));
      }
    }
  }
}

TEST("cuda matmul: stores bf16, or adds to what is there, by every kernel") {
  for (const std::int64_t outputs : {40, 41}) {  // 41: no row but the first is aligned
    // Of 200 rows, tiles of 64 are of unequal height, so that a box holds rows of the next one.
    for (const int rows : {5, 67, 200}) {
      const Problem problem(rows, outputs, 128, WeightClass::int8);
      const std::vector<bf16> before = randomBf16s(rows * outputs, 4);
      const auto exact = problem.logits();
      for (const Kernel& kernel : kernels(rows, WeightClass::int8)) {
        const auto stored = problem.runBy(kernel, cuda::Epilogue::store, before);
        const auto added = problem.runBy(kernel, cuda::Epilogue::add, before);
        for (std::size_t i = 0; i < exact.size(); ++i) {
          test::equal(stored[i], toBf16(exact[i]), "stored");
          test::equal(added[i], toBf16(exact[i] + toFloat(before[i])), "added");
        }
      }
    }
  }
}

TEST("cuda matmul: gates by SiLU what a gated weight interleaves") {
  for (const WeightClass weightClass : kClasses) {
    for (const std::int64_t gates : {64, 24, 13}) {
      const Problem problem(19, 2 * gates, 136, weightClass, WeightLayout::gated);
      for (const bool biased : {false, true}) {
        const auto y = problem.run(cuda::Epilogue::swiGlu, biased, std::vector<bf16>(19 * gates, 0x7fc0));
        for (int row = 0; row < 19; ++row) {
          for (int gate = 0; gate < gates; ++gate) {
            const auto left = problem.expected(row, gate, biased),
                       right = problem.expected(row, gates + gate, biased);
            const double expected = left.value / (1 + std::exp(-left.value)) * right.value;
            const double tolerance = std::abs(left.value) * right.tolerance +
                                     std::abs(right.value) * 2 * left.tolerance + 1e-5 * std::abs(expected);
            near(toFloat(y[row * gates + gate]), expected, bf16Error(expected) + tolerance + 1e-6,
                 shapeOf(problem) + ", row " + std::to_string(row) + ", gate " + std::to_string(gate));
          }
        }
      }
    }
  }
}

TEST("cuda matmul: all kernels gate alike") {
  const std::int64_t gates = 48, rows = 67;
  for (const WeightClass weightClass : kClasses) {
    const Problem problem(rows, 2 * gates, 72, weightClass, WeightLayout::gated);
    const std::vector<bf16> before(rows * gates, 0x7fc0);
    std::vector<bf16> first;
    for (const Kernel& kernel : kernels(rows, weightClass, 2)) {
      const auto y = problem.runBy(kernel, cuda::Epilogue::swiGlu, before);
      if (first.empty()) first = y;
      isTrue(y == first, "equal");
    }
  }
}

TEST("cuda matmul: a row's bits do not depend on the rows beside it nor on the SMs") {
  for (const WeightClass weightClass : kClasses) {
    const Problem problem(280, 72, 264, weightClass);
    const auto together = problem.logits();
    for (const auto& [first, count, sms] : {std::tuple{0, 1, 1},
                                            {279, 1, 132},
                                            {3, 9, 2},
                                            {64, 65, 8},
                                            {7, 257, 132},
                                            {0, 280, 1},
                                            {0, 280, 64}}) {
      const auto some = problem.logits(first, count, sms);
      isTrue(std::equal(some.begin(), some.end(), together.begin() + first * problem.outputs),
             std::to_string(count) + " rows from " + std::to_string(first) + " on " + std::to_string(sms));
    }
  }
}

// Emulated they are slow, so the numbers of SMs take turns.
TEST("cuda matmul: all kernels give the same bits") {
  std::size_t turn = 0;
  for (const WeightClass weightClass : kClasses) {
    for (const auto& [rows, outputs, inputs] : {std::tuple{1, 24, 72},
                                                {9, 136, 200},
                                                {70, 264, 136},
                                                {130, 520, 64},
                                                {200, 72, 328},
                                                {265, 40, 128}}) {
      const Problem problem(rows, outputs, inputs, weightClass);
      const auto first = problem.logitsBy(kernels(rows, weightClass)[0]);
      expectLogits(problem, first, true, shapeOf(problem));
      for (const Kernel& kernel : kernels(rows, weightClass)) {
        const int sms = std::array{1, 3, 132}[turn++ % 3];
        isTrue(problem.logitsBy(kernel, sms) == first, shapeOf(problem) + " on " + std::to_string(sms));
      }
    }
  }
}

TEST("cuda matmul: a weight of codes is the bf16 weight of its rounded values, bit for bit") {
  for (const WeightClass weightClass : {WeightClass::int8, WeightClass::int4}) {
    const Problem codes(7, 48, 200, weightClass);
    Problem bf16s(7, 48, 200, WeightClass::bf16);
    const CheckpointMatrix rounded{reinterpret_cast<const std::byte*>(codes.means.data()),
                                   CheckpointType::f32, 48, 200};
    bf16s.packed = cuda::packWeight({&rounded, 1}, WeightLayout::stacked, WeightClass::bf16, kStream);
    isTrue(codes.logits() == bf16s.logits(), "equal");
  }
}

TEST("cuda matmul: a weight that is not a number stays visible in every class") {
  std::vector<float> values(8 * 64, 0.5f);
  values[3 * 64 + 5] = NAN;
  const CheckpointMatrix part{reinterpret_cast<const std::byte*>(values.data()), CheckpointType::f32, 8, 64};
  for (const WeightClass weightClass : kClasses) {
    Problem problem(1, 8, 64, weightClass);
    problem.packed = cuda::packWeight({&part, 1}, WeightLayout::stacked, weightClass, kStream);
    const auto y = problem.logits();
    for (int output = 0; output < 8; ++output) {
      test::equal(std::isnan(y[output]), output == 3, "output " + std::to_string(output));
    }
  }
}

TEST("cuda matmul: packs bf16, f16 and f32 alike where all can hold the values") {
  std::vector<float> values(16 * 24);
  std::vector<bf16> wide(values.size());
  std::vector<std::uint16_t> half(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int power = static_cast<int>(i % 5) - 2;
    values[i] = std::ldexp(i % 3 == 0 ? -1.0f : 1.0f, power);
    wide[i] = toBf16(values[i]);
    half[i] = static_cast<std::uint16_t>((i % 3 == 0 ? 0x8000 : 0) | (power + 15) << 10);
  }
  Problem problem(3, 16, 24, WeightClass::bf16);
  std::vector<std::vector<float>> results;
  const auto pack = [&](const void* data, CheckpointType type) {
    const CheckpointMatrix part{static_cast<const std::byte*>(data), type, 16, 24};
    problem.packed = cuda::packWeight({&part, 1}, WeightLayout::stacked, WeightClass::bf16, kStream);
    results.push_back(problem.logits());
  };
  pack(values.data(), CheckpointType::f32);
  pack(wide.data(), CheckpointType::bf16);
  pack(half.data(), CheckpointType::f16);
  isTrue(results[0] == results[1] && results[0] == results[2], "equal");
}

TEST("cuda matmul: packs fp8 as the products with its scales, in every class and layout") {
  constexpr std::int64_t kRows = 24, kCols = 72;
  for (const auto& [blockRows, blockCols] : {std::pair{5, 7}, {1, 72}, {24, 72}, {16, 64}}) {
    const std::int64_t perRow = (kCols + blockCols - 1) / blockCols;
    std::vector<std::uint8_t> codes(kRows * kCols);
    std::vector<float> scales = randomFloats((kRows + blockRows - 1) / blockRows * perRow, 3), values;
    for (std::int64_t i = 0; i < kRows * kCols; ++i) {
      codes[i] = static_cast<std::uint8_t>(i * 89 % 251);
      if (codes[i] % 128 == 127) codes[i] = 0;
      values.push_back(e4m3ToFloat(codes[i]) *
                       scales[i / kCols / blockRows * perRow + i % kCols / blockCols]);
    }
    const CheckpointMatrix fp8{reinterpret_cast<const std::byte*>(codes.data()),
                               CheckpointType::e4m3,
                               kRows,
                               kCols,
                               {scales.data(), blockRows, blockCols}},
        f32{reinterpret_cast<const std::byte*>(values.data()), CheckpointType::f32, kRows, kCols};
    for (const WeightClass weightClass : kClasses) {
      for (const bool gated : {false, true}) {
        const auto layout = gated ? WeightLayout::gated : WeightLayout::stacked;
        Problem problem(2, 2 * kRows, kCols, weightClass, layout);
        std::vector<std::vector<bf16>> results;
        for (const CheckpointMatrix& part : {fp8, f32}) {
          const CheckpointMatrix parts[] = {part, part};
          problem.packed = cuda::packWeight(parts, layout, weightClass, kStream);
          results.push_back(problem.run(gated ? cuda::Epilogue::swiGlu : cuda::Epilogue::store, false,
                                        std::vector<bf16>()));
        }
        isTrue(results[0] == results[1], "equal");
      }
    }
  }
}

TEST("cuda matmul: what no kernel supports is refused by name") {
  const auto pack = [](std::vector<CheckpointMatrix> parts, WeightLayout layout, WeightClass weightClass) {
    return [=] { cuda::packWeight(parts, layout, weightClass, kStream); };
  };
  const CheckpointMatrix narrow{nullptr, CheckpointType::f32, 8, 8},
      wide{nullptr, CheckpointType::f32, 8, 16}, odd{nullptr, CheckpointType::f32, 8, 12},
      taller{nullptr, CheckpointType::f32, 9, 8};
  throws(pack({narrow, wide}, WeightLayout::stacked, WeightClass::bf16), "equal inputs");
  throws(pack({odd}, WeightLayout::stacked, WeightClass::bf16), "multiple of 8");
  throws(pack({narrow, taller}, WeightLayout::gated, WeightClass::bf16), "one shape");
  throws(pack({}, WeightLayout::stacked, WeightClass::bf16), "at least one matrix");
  const Problem problem(1, 16, 8, WeightClass::bf16);
  throws([&] { problem.run(cuda::Epilogue::swiGlu, false, std::vector<bf16>(8)); }, "gated");
}
