#include "cuda/page-converter.h"

#include <algorithm>

#include "cuda/requantize.h"

namespace tandem::cuda {
namespace {

// A sequence of 4000 tokens in 32 layers.
constexpr std::size_t kAtOnce = 4096;

constexpr const char* kListsPurpose = "lists of pages to convert";

}  // namespace

PageConverter::PageConverter()
    : host_(kAtOnce * sizeof(PageConversion), kListsPurpose),
      device_(kAtOnce * sizeof(PageConversion), kListsPurpose) {}

void PageConverter::convert(std::span<const PageConversion> conversions, Stream stream) {
  if (conversions.empty()) return;
  const PageFormat format = conversions[0].fromFormat;
  validate(conversions, format);
  for (std::size_t begin = 0; begin < conversions.size(); begin += kAtOnce) {
    const auto part = conversions.subspan(begin, std::min(kAtOnce, conversions.size() - begin));
    std::ranges::copy(part, host_.as<PageConversion>());
    copyToDevice(device_.data(), host_.data(), part.size_bytes(), stream);
    requantize({device_.as<PageConversion>(), static_cast<int>(part.size()), format}, stream);
    synchronize(stream);  // the next part comes through the same memory
  }
}

}  // namespace tandem::cuda
