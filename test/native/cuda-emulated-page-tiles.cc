#include "cuda/page-tiles.h"

#include "check.h"

using namespace tandem;
using namespace tandem::cuda;
using namespace tandem::test;

namespace {

float element(std::uint32_t pair, int half) { return toFloat(static_cast<bf16>(pair >> (16 * half))); }

// Every content of one half, beside another in the other one.
template <class Expect>
void withEveryHalf(const Expect& expect) {
  for (std::uint32_t half = 0; half < 0x10000; ++half) expect(half | (half * 40503 & 0xffff) << 16);
}

// The codes of a packed class in both halves from bit kBit on, from the float that each stands for.
template <PrecisionClass kClass, int kBit>
void expectLevels() {
  using Tile = PageTile<32, true, kClass>;
  constexpr std::uint32_t kTop = (1 << bitsOf(kClass)) - 1;
  withEveryHalf([](std::uint32_t words) {
    const std::uint32_t pair = Tile::template levels<kBit>(words);
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t code = words >> (16 * half + kBit) & kTop;
      equal(element(pair, half), static_cast<float>(code) - kTop / 2.0F, "level of a code");
    }
  });
}

}  // namespace

TEST("cuda page tiles: makes an exact number of every code, whatever lies beside it") {
  expectLevels<PrecisionClass::int4, 1>();
  expectLevels<PrecisionClass::int4, 3>();
  expectLevels<PrecisionClass::int2, 1>();
  expectLevels<PrecisionClass::int2, 3>();
  expectLevels<PrecisionClass::int2, 5>();
  withEveryHalf([](std::uint32_t codes) {
    const std::uint32_t pairs[] = {expandCodes<0>(codes), expandCodes<1>(codes)};
    for (int i = 0; i < 4; ++i) {
      const auto code = static_cast<std::int8_t>(codes >> (8 * i));
      equal(element(pairs[i / 2], i % 2), static_cast<float>(code), "int8 code");
    }
  });
}
