#include "cpu/requantize/requantize.h"

#include <string>

#include "core/error.h"
#include "cpu/requantize/kernels.h"

namespace tandem::cpu {
namespace {

void validate(const PageConversion& conversion) {
  const PageFormat& from = conversion.fromFormat;
  const PageFormat& to = conversion.toFormat;
  if (isPacked(from.precision) || to.precision == PrecisionClass::none ||
      bitsOf(to.precision) >= bitsOf(from.precision)) {
    throw Error(std::string("a page cannot be requantized from ") + nameOf(from.precision) + " to " +
                nameOf(to.precision));
  }
  check(from.kvHeads == to.kvHeads && from.headDim == to.headDim && from.headDim > 0 &&
            from.headDim % 16 == 0 && from.headDim <= kMaxHeadDim,
        "requantize: the page formats do not fit each other or the head dimensions supported");
}

void requantizeHead(const RequantizeKernels& kernels, const PageConversion& conversion, int kvHead) {
  const auto& [from, to, fromFormat, toFormat, detail] = conversion;
  const bool scaled = fromFormat.precision == PrecisionClass::int8;
  const auto scales = [&](std::size_t offset) {
    return scaled ? reinterpret_cast<const float*>(from + offset) : nullptr;
  };
  const HeadSource source{from + fromFormat.keys(kvHead), from + fromFormat.values(kvHead),
                          scales(fromFormat.keyScales(kvHead)), scales(fromFormat.valueScales(kvHead)),
                          fromFormat.headDim};
  const HeadTarget target{to + toFormat.keys(kvHead), to + toFormat.values(kvHead),
                          to + toFormat.keyScales(kvHead), to + toFormat.valueScales(kvHead)};
  switch (toFormat.precision) {
    case PrecisionClass::int8:
      return kernels.toInt8(source, target);
    case PrecisionClass::int4:
      return kernels.toInt4(source, target);
    case PrecisionClass::int2:
      return kernels.toInt2(source, target);
    case PrecisionClass::bf16:
    case PrecisionClass::far:
    case PrecisionClass::none:
      break;
  }
}

}  // namespace

void requantize(Isa isa, ThreadTeam& team, std::span<const PageConversion> conversions) {
  for (const PageConversion& conversion : conversions) validate(conversion);
  const RequantizeKernels kernels = requantizeKernels(isa);
  team.forEach(static_cast<std::int64_t>(conversions.size()), [&](std::int64_t i, int) {
    for (int kvHead = 0; kvHead < conversions[i].toFormat.kvHeads; ++kvHead) {
      requantizeHead(kernels, conversions[i], kvHead);
    }
  });
}

void requantizePage(Isa isa, const PageConversion& conversion) {
  validate(conversion);
  const RequantizeKernels kernels = requantizeKernels(isa);
  for (int kvHead = 0; kvHead < conversion.toFormat.kvHeads; ++kvHead) {
    requantizeHead(kernels, conversion, kvHead);
  }
}

}  // namespace tandem::cpu
