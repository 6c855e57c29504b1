// Int4 pages that become far, alone and in lists with other conversions.

#include "cuda/outline-pages.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/requantize/requantize.h"
#include "cuda/page-converter.h"
#include "cuda/runtime.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr auto kUntouched = std::byte{0xa5};

std::byte* bytesOf(DeviceArray<float>& array) { return reinterpret_cast<std::byte*>(array.data()); }

std::vector<std::byte> read(const DeviceArray<float>& array) {
  const std::vector<float> values = array.read();
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> filled(std::size_t bytes) {
  std::vector<float> values(bytes / sizeof(float));
  std::memset(values.data(), static_cast<int>(kUntouched), bytes);
  return values;
}

// Pages that are to become far, on the device, and where they go. What lies in them is of no account.
struct FarCase {
  FarCase(const PageFormat& heads, int count, unsigned seed)
      : own(heads.in(PrecisionClass::int4)), outline(heads.in(PrecisionClass::far)) {
    for (int i = 0; i < count; ++i) {
      pages.emplace_back(randomFloats(own.pageBytes() / sizeof(float), seed + static_cast<unsigned>(i)));
      outlines.emplace_back(filled(outline.pageBytes()));
      // With a guard behind.
      details.emplace_back(own.pageBytes() + 64, "far pages of a test");
      std::memset(details.back().data(), static_cast<int>(kUntouched), details.back().bytes());
      conversions.push_back(
          {bytesOf(pages.back()), bytesOf(outlines.back()), own, outline, details.back().data()});
    }
  }

  // From the definition, once the device is done.
  void expectFar(const std::string& what) const {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      const std::string where =
          what + ", head dimension " + std::to_string(own.headDim) + ", page " + std::to_string(i);
      const std::vector<std::byte> page = read(pages[i]);
      std::vector<std::byte> whole = page, ofOutline(outline.pageBytes(), kUntouched);
      whole.resize(details[i].bytes(), kUntouched);
      isTrue(std::memcmp(details[i].data(), whole.data(), whole.size()) == 0, where + ": its bytes");
      for (int kvHead = 0; kvHead < own.kvHeads; ++kvHead) {
        std::memcpy(ofOutline.data() + outline.keyScales(kvHead), page.data() + own.keyScales(kvHead),
                    own.keyScaleBytes());
      }
      const std::byte* const address = details[i].data();
      std::memcpy(ofOutline.data() + outline.detailPlace(), &address, sizeof(address));
      isTrue(read(outlines[i]) == ofOutline, where + ": its outline");
    }
  }

  const PageFormat own, outline;
  std::vector<DeviceArray<float>> pages, outlines;
  std::vector<cuda::PinnedMemory> details;
  std::vector<PageConversion> conversions;
};

}  // namespace

TEST("cuda outline pages: a page goes to host memory, its key scales and its address stay") {
  for (const int headDim : {16, 32, 80, 128, 256}) {
    // More than there are blocks.
    FarCase problem({PrecisionClass::bf16, 3, headDim}, 19, 7);
    DeviceArray<PageConversion> all(problem.conversions);
    cuda::outlinePages({all.data(), static_cast<int>(problem.conversions.size())}, kStream);
    synchronize(kStream);
    problem.expectFar("alone");
  }
}

TEST("cuda outline pages: a list may have other conversions between those to far") {
  const PageFormat exact{PrecisionClass::bf16, 2, 64}, coded = exact.in(PrecisionClass::int2);
  FarCase problem(exact, 5, 30);
  std::vector<DeviceArray<float>> sources, targets;
  std::vector<PageConversion> conversions;
  for (const PageConversion& toFar : problem.conversions) {
    const std::vector<bf16> elements =
        randomBf16s(exact.pageBytes() / sizeof(bf16), 50 + static_cast<unsigned>(sources.size()));
    std::vector<float> page(exact.pageBytes() / sizeof(float));
    std::memcpy(page.data(), elements.data(), exact.pageBytes());
    sources.emplace_back(page);
    targets.emplace_back(filled(coded.pageBytes()));
    conversions.push_back({bytesOf(sources.back()), bytesOf(targets.back()), exact, coded});
    conversions.push_back(toFar);
  }
  cuda::PageConverter converter;
  converter.convert(conversions, kStream);
  problem.expectFar("beside others");
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::vector<std::byte> page = read(sources[i]);
    std::vector<std::byte> expected(coded.pageBytes());
    cpu::requantizePage(Isa::portable, {page.data(), expected.data(), exact, coded});
    isTrue(read(targets[i]) == expected, "page " + std::to_string(i) + " to int2");
  }

  FarCase alone(exact, 2, 70);
  converter.convert(alone.conversions, kStream);
  alone.expectFar("a list of nothing else");
}
