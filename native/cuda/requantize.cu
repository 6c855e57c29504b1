// One block for each page and KV head. What shares a step is in one lane (keys), in one warp (values: four
// channels a lane of a pair's row) or, for keys of int8, in one lane of each warp: requantize-packed.h and
// requantize-int8.h. The arithmetic is that of native/cpu/requantize/kernels.inl, operation by operation.
//
// Bytes: the page read (keys to int8 twice, mostly from L1) and written in its new class.

#include "cuda/requantize.h"

#include <string>

#include "core/error.h"
#include "cuda/kernel.h"
#include "cuda/requantize-int8.h"
#include "cuda/requantize-packed.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda {
namespace {

using namespace requantization;

// Of its own the compiler keeps to 96 registers and spills some; with blocks of four warps there is room for
// 128.
__global__ void __launch_bounds__(kThreads, 4) requantizeHead(const PageConversion* conversions) {
  const PageConversion conversion = conversions[blockIdx.x];
  const int kvHead = static_cast<int>(blockIdx.y);
  const PageFormat from = conversion.fromFormat, to = conversion.toFormat;
  const bool scaled = from.precision == PrecisionClass::int8;
  const auto scalesAt = [&](std::size_t offset) {
    return scaled ? reinterpret_cast<const float*>(conversion.from + offset) : nullptr;
  };
  const Source keys{conversion.from + from.keys(kvHead), scalesAt(from.keyScales(kvHead))};
  const Source values{conversion.from + from.values(kvHead), scalesAt(from.valueScales(kvHead))};
  std::byte *keyTile = conversion.to + to.keys(kvHead), *keyScales = conversion.to + to.keyScales(kvHead);
  std::byte *valueTile = conversion.to + to.values(kvHead),
            *valueScales = conversion.to + to.valueScales(kvHead);
  const int headDim = from.headDim;
  if (to.precision == PrecisionClass::int8) {
    codeKeys(keys, headDim, keyTile, keyScales);
    codeValues(values, headDim, valueTile, valueScales);
  } else if (to.precision == PrecisionClass::int4) {
    packKeys<4>(keys, headDim, keyTile, keyScales);
    packValues<4>(values, headDim, valueTile, valueScales);
  } else {
    packKeys<2>(keys, headDim, keyTile, keyScales);
    packValues<2>(values, headDim, valueTile, valueScales);
  }
}

}  // namespace

void validate(std::span<const PageConversion> conversions, const PageFormat& format) {
  check(format.kvHeads > 0 && format.headDim > 0 && format.headDim % 16 == 0 && format.headDim <= kMaxHeadDim,
        "requantize supports head dimensions that are multiples of 16 up to 256");
  for (const auto& [from, to, fromFormat, toFormat, detail] : conversions) {
    if (!canBecome(fromFormat.precision, toFormat.precision)) {
      throw Error(std::string("a page cannot be requantized from ") + nameOf(fromFormat.precision) + " to " +
                  nameOf(toFormat.precision));
    }
    const auto fits = [&](const PageFormat& other) {
      return other.kvHeads == format.kvHeads && other.headDim == format.headDim;
    };
    check(fits(fromFormat) && fits(toFormat), "requantize: the page formats do not fit each other");
    check(toFormat.precision != PrecisionClass::far || detail != nullptr,
          "requantize: a far page needs a place in host memory");
  }
}

void requantize(const Requantize& problem, Stream stream) {
  if (problem.count == 0) return;
  const dim3 grid(static_cast<unsigned>(problem.count), static_cast<unsigned>(problem.format.kvHeads));
  launch("requantize", requantizeHead, grid, kThreads, stream, problem.conversions);
}

}  // namespace tandem::cuda
