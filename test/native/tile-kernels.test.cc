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
  for (const int rows : {1, 7, 16}) {
    const std::size_t groups = 3, stride = groups * kGroup;
    std::vector<std::int8_t> codes(rows * stride);
    std::vector<std::int32_t> corrections(rows * groups);
    std::vector<float> inputScales(rows * groups), scales(groups * kPanel);
    std::vector<std::uint8_t> panel(stride * kPanel);
    for (auto& code : codes) code = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
    for (auto& correction : corrections) correction = static_cast<std::int32_t>(random() % 20000) - 10000;
    for (auto& scale : inputScales) scale = 1e-3f * static_cast<float>(random() % 1000);
    for (auto& scale : scales) scale = 1e-3f * static_cast<float>(random() % 1000);
    for (auto& byte : panel) byte = static_cast<std::uint8_t>(random());
    const QuantizedRows a{codes.data(), stride, inputScales.data(), corrections.data(), groups};
    for (const auto& [plain, tiled] :
         {std::pair{kPortableKernels.int8Dot, test::kEmulatedTileKernels.int8Dot},
          std::pair{kPortableKernels.int4Dot, test::kEmulatedTileKernels.int4Dot}}) {
      std::vector<float> expected(rows * kPanel), actual(rows * kPanel);
      for (std::size_t begin = 0; begin < groups; begin += 2) {
        plain(rows, a, begin, std::min(begin + 2, groups), panel.data(), scales.data(), {}, expected.data());
        tiled(rows, a, begin, std::min(begin + 2, groups), panel.data(), scales.data(), {}, actual.data());
      }
      for (std::size_t i = 0; i < actual.size(); ++i) test::equal(actual[i], expected[i], "sum");
    }
  }
}
