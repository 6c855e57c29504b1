// One block for each page and KV head, of four warps that each have a part of both tiles. A lane holds those
// of their elements whose codes it writes, so that codes stay in a lane; what a group reaches goes among
// lanes, and each lane computes the step of another group: requantize-packed.h and requantize-int8.h. The
// bytes are those of native/cpu/requantize/kernels.inl, which says how they come about.
//
// Bytes: the page read once and written in its new class.

#include "cuda/requantize.h"

#include <string>

#include "core/error.h"
#include "cuda/global-memory.h"
#include "cuda/kernel.h"
#include "cuda/requantize-int8.h"
#include "cuda/requantize-packed.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda {
namespace {

using namespace requantization;

// A conversion's pages. `kFrom` and `kTo` are its classes, of which places in them become few instructions.
template <PrecisionClass kFrom, PrecisionClass kTo>
struct Pages {
  __device__ explicit Pages(const PageConversion& conversion)
      : from(inGlobalMemory(conversion.from)),
        to(inGlobalMemory(conversion.to)),
        fromFormat(conversion.fromFormat.in(kFrom)),
        toFormat(conversion.toFormat.in(kTo)) {}

  const std::byte* from;
  std::byte* to;
  PageFormat fromFormat, toFormat;
};

template <int kPatches>
__device__ void codeHead(const PageConversion& conversion, int kvHead) {
  const auto& [from, to, fromFormat, toFormat] =
      Pages<PrecisionClass::bf16, PrecisionClass::int8>(conversion);
  codeKeys<4 * kPatches>(from + fromFormat.keys(kvHead), fromFormat.headDim, to + toFormat.keys(kvHead),
                         to + toFormat.keyScales(kvHead));
  codeValues<kPatches>(from + fromFormat.values(kvHead), fromFormat.headDim, to + toFormat.values(kvHead),
                       to + toFormat.valueScales(kvHead));
}

template <int kBits, bool kCoded, int kPatches>
__device__ void pack(const PageConversion& conversion, int kvHead) {
  constexpr PrecisionClass kFrom = kCoded ? PrecisionClass::int8 : PrecisionClass::bf16,
                           kTo = kBits == 4 ? PrecisionClass::int4 : PrecisionClass::int2;
  const auto& [from, to, fromFormat, toFormat] = Pages<kFrom, kTo>(conversion);
  const auto sourceAt = [page = from](std::size_t tile, std::size_t scales) {
    return Source<kCoded>{page + tile, reinterpret_cast<const float*>(page + scales)};
  };
  const Source<kCoded> keys = sourceAt(fromFormat.keys(kvHead), fromFormat.keyScales(kvHead)),
                       values = sourceAt(fromFormat.values(kvHead), fromFormat.valueScales(kvHead));
  const Target keyTarget{to + toFormat.keys(kvHead), to + toFormat.keyScales(kvHead)},
      valueTarget{to + toFormat.values(kvHead), to + toFormat.valueScales(kvHead)};
  packHead<kBits, kCoded, kPatches>(keys, values, fromFormat.headDim, keyTarget, valueTarget);
}

// kPatches: runs of 128 channels, one, or two where heads are larger.
//
// Four blocks an SM: bytes of 16 warps on their way are more than a page's latency takes.
template <int kPatches>
__global__ void __launch_bounds__(kThreads, 4) requantizeHead(const PageConversion* conversions) {
  const PageConversion conversion = conversions[blockIdx.x];
  const int kvHead = static_cast<int>(blockIdx.y);
  const PrecisionClass from = conversion.fromFormat.precision, to = conversion.toFormat.precision;
  if (to == PrecisionClass::int8) {
    codeHead<kPatches>(conversion, kvHead);
  } else if (from == PrecisionClass::int8) {
    to == PrecisionClass::int4 ? pack<4, true, kPatches>(conversion, kvHead)
                               : pack<2, true, kPatches>(conversion, kvHead);
  } else {
    to == PrecisionClass::int4 ? pack<4, false, kPatches>(conversion, kvHead)
                               : pack<2, false, kPatches>(conversion, kvHead);
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
  launch("requantize", problem.format.headDim <= 128 ? requantizeHead<1> : requantizeHead<2>, grid, kThreads,
         stream, problem.conversions);
}

}  // namespace tandem::cuda
