#include "cuda/requantize.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"
#include "cpu/requantize/requantize.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

using Bytes = std::vector<float>;

// A page of these elements in bf16; of int8 made from it by the CPU.
Bytes pageOf(PageFormat format, const std::vector<bf16>& elements) {
  const PageFormat exact = format.in(PrecisionClass::bf16);
  Bytes page(exact.pageBytes() / sizeof(float));
  std::memcpy(page.data(), elements.data(), exact.pageBytes());
  if (format.precision == PrecisionClass::bf16) return page;
  Bytes coded(format.pageBytes() / sizeof(float));
  cpu::requantizePage(Isa::portable, {reinterpret_cast<const std::byte*>(page.data()),
                                      reinterpret_cast<std::byte*>(coded.data()), exact, format});
  return coded;
}

// Normal values, some of them far away.
Bytes randomPage(PageFormat format, unsigned seed, const std::vector<float>& special = {}) {
  const PageFormat exact = format.in(PrecisionClass::bf16);
  std::vector<bf16> elements = randomBf16s(exact.pageBytes() / sizeof(bf16), seed);
  for (std::size_t i = 0; i < elements.size(); i += 97) elements[i] = toBf16(60 + static_cast<float>(i % 7));
  for (std::size_t i = 0; i < special.size(); ++i) elements[i * 331 + 5] = toBf16(special[i]);
  return pageOf(format, elements);
}

// Pages of the class, together, to each class below it, against the CPU's bytes.
void expectSamePages(PageFormat format, const std::vector<Bytes>& pages) {
  for (const PrecisionClass precision : kPrecisionClasses) {
    if (bitsOf(precision) >= bitsOf(format.precision)) continue;
    const PageFormat to = format.in(precision);
    std::vector<DeviceArray<float>> sources, targets;
    std::vector<PageConversion> conversions;
    for (const Bytes& page : pages) {
      sources.emplace_back(page);
      targets.emplace_back(std::vector<float>(to.pageBytes() / sizeof(float), NAN));
      conversions.push_back({reinterpret_cast<const std::byte*>(sources.back().data()),
                             reinterpret_cast<std::byte*>(targets.back().data()), format, to});
    }
    cuda::validate(conversions, format);
    DeviceArray<PageConversion> all(conversions);
    cuda::requantize({all.data(), static_cast<int>(pages.size()), format}, kStream);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      std::vector<std::byte> expected(to.pageBytes(), std::byte{0xff});
      cpu::requantizePage(Isa::portable,
                          {reinterpret_cast<const std::byte*>(pages[i].data()), expected.data(), format, to});
      const Bytes actual = targets[i].read();
      const auto* bytes = reinterpret_cast<const std::byte*>(actual.data());
      for (std::size_t at = 0; at < expected.size(); ++at) {
        if (bytes[at] == expected[at]) continue;
        fail(std::string(nameOf(format.precision)) + " to " + nameOf(precision) + ", head dimension " +
             std::to_string(format.headDim) + ", page " + std::to_string(i) + ", byte " + std::to_string(at) +
             ": " + std::to_string(static_cast<int>(bytes[at])) + " and not " +
             std::to_string(static_cast<int>(expected[at])));
      }
    }
  }
}

constexpr PrecisionClass kSources[] = {PrecisionClass::bf16, PrecisionClass::int8};

}  // namespace

TEST("cuda requantize: writes the CPU's bytes, for every pair of classes and head dimension") {
  for (const PrecisionClass from : kSources) {
    for (const int headDim : {16, 32, 80, 128, 256}) {
      const PageFormat format{from, 2, headDim};
      expectSamePages(format, {randomPage(format, 1), randomPage(format, 2), randomPage(format, 3)});
    }
  }
}

TEST("cuda requantize: equal elements, zeros, NaN, infinity and huge ranges become the CPU's bytes") {
  const float most = 3.3e38f, infinity = std::numeric_limits<float>::infinity();
  for (const PrecisionClass from : kSources) {
    const PageFormat format{from, 1, 64};
    Bytes zeros(format.pageBytes() / sizeof(float), 0.0f);
    expectSamePages(format, {zeros, randomPage(format, 4, {NAN, infinity, -infinity}),
                             randomPage(format, 5, {most, -most, 1e-38f, 1e-40f, -0.0f, 0.0f})});
  }
}

TEST("cuda requantize: negative zeros become the CPU's bytes") {
  const PageFormat format{PrecisionClass::bf16, 1, 32};
  expectSamePages(format, {pageOf(format, std::vector<bf16>(2 * format.tileElements(), toBf16(-0.0f)))});
}

// Groups of every size, so that places come to lie near every border, and lanes with and without channels.
TEST(
    "cuda requantize: groups of any spread and head dimensions of any multiple of 16 become the CPU's "
    "bytes") {
  for (const PrecisionClass from : kSources) {
    for (int headDim = 48; headDim <= 240; headDim += 32) {
      const PageFormat format{from, 1, headDim}, exact = format.in(PrecisionClass::bf16);
      std::vector<bf16> elements =
          randomBf16s(exact.pageBytes() / sizeof(bf16), static_cast<unsigned>(headDim));
      for (std::size_t i = 0; i < elements.size(); ++i) {
        // A few values of a coarse grid, so that many lie right between two codes; and runs of all sizes.
        const float coarse = std::round(toFloat(elements[i]) * 4) / 4;
        elements[i] =
            toBf16(std::ldexp(coarse, static_cast<int>(i / 64 % 40) - 20) + (i / 4096 % 2 ? 3.0f : 0));
      }
      expectSamePages(format, {pageOf(format, elements), randomPage(format, 7)});
    }
  }
}

TEST("cuda requantize: refuses what is no conversion, by name") {
  const PageFormat bf16s{PrecisionClass::bf16, 1, 32}, int4s = bf16s.in(PrecisionClass::int4);
  const auto of = [](PageFormat from, PageFormat to) {
    return std::vector<PageConversion>{{nullptr, nullptr, from, to}};
  };
  throws([&] { cuda::validate(of(int4s, bf16s), bf16s); }, "from int4 to bf16");
  throws([&] { cuda::validate(of(bf16s, {PrecisionClass::int4, 2, 32}), bf16s); }, "fit each other");
  const PageFormat outlines = bf16s.in(PrecisionClass::far);
  throws([&] { cuda::validate(of(bf16s, outlines), bf16s); }, "from bf16 to far");
  throws([&] { cuda::validate(of(bf16s.in(PrecisionClass::int2), outlines), bf16s); }, "from int2 to far");
  throws([&] { cuda::validate(of(outlines, int4s), bf16s); }, "from far to int4");
  throws([&] { cuda::validate(of(int4s, bf16s.in(PrecisionClass::none)), bf16s); }, "from int4 to none");
  throws([&] { cuda::validate(of(int4s, outlines), bf16s); }, "a place in host memory");
  throws([&] { cuda::validate({}, {PrecisionClass::bf16, 1, 20}); }, "multiples of 16");
}
