#include "cpu/requantize/requantize.h"

#include <cstring>
#include <string>

#include "core/error.h"
#include "cpu/requantize/kernels.h"

namespace tandem::cpu {
namespace {

void validate(const PageConversion& conversion) {
  const PageFormat& from = conversion.fromFormat;
  const PageFormat& to = conversion.toFormat;
  if (!canBecome(from.precision, to.precision)) {
    throw Error(std::string("a page cannot be requantized from ") + nameOf(from.precision) + " to " +
                nameOf(to.precision));
  }
  check(from.kvHeads == to.kvHeads && from.headDim == to.headDim && from.headDim > 0 &&
            from.headDim % 16 == 0 && from.headDim <= kMaxHeadDim,
        "requantize: the page formats do not fit each other or the head dimensions supported");
  check(to.precision != PrecisionClass::far || conversion.detail != nullptr,
        "requantize: a far page needs a place");
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

// The page lies in its place as it was; its outline has what bounds what its keys can score.
void makeFar(const PageConversion& conversion) {
  const auto& [from, to, fromFormat, toFormat, detail] = conversion;
  std::memcpy(detail, from, fromFormat.pageBytes());
  for (int kvHead = 0; kvHead < toFormat.kvHeads; ++kvHead) {
    std::memcpy(to + toFormat.keyScales(kvHead), from + fromFormat.keyScales(kvHead),
                toFormat.keyScaleBytes());
  }
  std::memcpy(to + toFormat.detailPlace(), &detail, sizeof detail);
}

void convert(const RequantizeKernels& kernels, const PageConversion& conversion) {
  if (conversion.toFormat.precision == PrecisionClass::far) return makeFar(conversion);
  for (int kvHead = 0; kvHead < conversion.toFormat.kvHeads; ++kvHead) {
    requantizeHead(kernels, conversion, kvHead);
  }
}

}  // namespace

void requantize(Isa isa, ThreadTeam& team, std::span<const PageConversion> conversions) {
  for (const PageConversion& conversion : conversions) validate(conversion);
  const RequantizeKernels kernels = requantizeKernels(isa);
  team.forEach(static_cast<std::int64_t>(conversions.size()),
               [&](std::int64_t i, int) { convert(kernels, conversions[i]); });
}

void requantizePage(Isa isa, const PageConversion& conversion) {
  validate(conversion);
  convert(requantizeKernels(isa), conversion);
}

}  // namespace tandem::cpu
