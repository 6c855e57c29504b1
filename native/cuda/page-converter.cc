#include "cuda/page-converter.h"

#include <algorithm>

#include "cuda/outline-pages.h"
#include "cuda/requantize.h"

namespace tandem::cuda {
namespace {

// A sequence of 4000 tokens in 32 layers.
constexpr std::size_t kAtOnce = 4096;

constexpr const char* kListsPurpose = "lists of pages to convert";

bool becomesFar(const PageConversion& conversion) {
  return conversion.toFormat.precision == PrecisionClass::far;
}

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
    const auto outlines = static_cast<int>(std::ranges::count_if(part, becomesFar)),
               others = static_cast<int>(part.size()) - outlines;
    auto* list = host_.as<PageConversion>();
    std::ranges::partition_copy(part, list + others, list, becomesFar);
    copyToDevice(device_.data(), list, part.size_bytes(), stream);
    const auto* onDevice = device_.as<PageConversion>();
    requantize({onDevice, others, format}, stream);
    outlinePages({onDevice + others, outlines}, stream);
    synchronize(stream);  // the next part comes through the same memory
  }
}

}  // namespace tandem::cuda
