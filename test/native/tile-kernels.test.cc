// The AMX kernels on emulated tiles, against their plain twins.

#include <array>
#include <random>
#include <utility>
#include <vector>

#include "check.h"
#include "emulated-tile-kernels.h"

using namespace tandem;
using namespace tandem::cpu;

TEST("tile kernels: bf16 sums equal the plain twin's, with ragged depth and continued sums") {
  if (!test::hasAvx512()) return;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int rows : {1, 3, 15, 16}) {
    for (const std::size_t inputs : {2, 30, 32, 34, 96, 130}) {
      const std::size_t stride = inputs + 6;
      std::vector<bf16> a(rows * stride), panel(inputs * kPanel);
      for (bf16& value : a) value = toBf16(normal(random));
      for (bf16& value : panel) value = toBf16(normal(random));
      for (const bool first : {true, false}) {
        std::vector<float> expected(rows * kPanel, 1.5f), actual = expected;
        kPortableKernels.bf16Dot(rows, a.data(), stride, panel.data(), inputs, first, {}, expected.data());
        test::kEmulatedTileKernels.bf16Dot(rows, a.data(), stride, panel.data(), inputs, first, {},
                                           actual.data());
        for (std::size_t i = 0; i < actual.size(); ++i) test::near(actual[i], expected[i], 1e-4, "sum");
      }
    }
  }
}

TEST("tile kernels: integer sums equal the plain twin's bit for bit") {
  if (!test::hasAvx512()) return;
  std::mt19937 random(2);
  const std::size_t groups = 3, stride = groups * kGroup;
  std::vector<float> scales(groups * kPanel);
  std::vector<std::uint8_t> int4(stride * kPanel / 2), int8(stride * kPanel), widened(int8.size());
  std::vector<std::int8_t> factors(groups * kPanel * kParts);
  for (auto& scale : scales) scale = 1e-3f * static_cast<float>(random() % 1000);
  for (auto& byte : int4) byte = static_cast<std::uint8_t>(random());
  for (auto& byte : int8) byte = static_cast<std::uint8_t>(random());
  for (auto& factor : factors) factor = static_cast<std::int8_t>(static_cast<int>(random() % 31) - 15);
  const IntegerPanel eightBits{int8.data(), scales.data(), nullptr};
  const IntegerPanel fourBits{int4.data(), scales.data(), factors.data()};
  test::kEmulatedTileKernels.widenInt4(fourBits, groups, widened.data());
  const IntegerPanel wide{widened.data(), scales.data(), nullptr};

  for (const int rows : {1, 7, 16}) {
    std::vector<std::int8_t> codes(rows * stride);
    std::vector<float> inputScales(rows * groups);
    for (auto& code : codes) code = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
    for (auto& scale : inputScales) scale = 1e-3f * static_cast<float>(random() % 1000);
    // Minus a zero point times the sums of the codes, of each part or of each group.
    const auto corrections = [&](int zero, std::size_t part) {
      std::vector<std::int32_t> all(rows * stride / part);
      for (std::size_t i = 0; i < codes.size(); ++i) all[i / part] -= zero * codes[i];
      return all;
    };
    const auto ofInt8 = corrections(128, kGroup), ofInt4 = corrections(8, kPart);
    const QuantizedRows byGroups{codes.data(), stride, inputScales.data(), ofInt8.data(), groups, 1};
    const QuantizedRows byParts{codes.data(), stride, inputScales.data(), ofInt4.data(), groups, kParts};
    const auto sums = [&](IntegerDot dot, const QuantizedRows& a, const IntegerPanel& panel,
                          std::size_t groupBytes) {
      std::vector<float> c(rows * kPanel);
      for (std::size_t begin = 0; begin < groups; begin += 2) {
        dot(rows, a.from(0, begin), panel.from(begin, 0, groupBytes),
            std::min<std::size_t>(2, groups - begin), begin == 0, {}, c.data());
      }
      return c;
    };
    constexpr std::size_t kInt8Bytes = std::size_t{kGroup} * kPanel;
    const auto tiles = test::kEmulatedTileKernels.int8Dot;
    test::isTrue(sums(tiles, byGroups, eightBits, kInt8Bytes) ==
                     sums(kPortableKernels.int8Dot, byGroups, eightBits, kInt8Bytes),
                 "int8");
    test::isTrue(sums(tiles, byGroups, wide, kInt8Bytes) ==
                     sums(kPortableKernels.int4Dot, byParts, fourBits, kInt8Bytes / 2),
                 "int4, widened");
  }
}
