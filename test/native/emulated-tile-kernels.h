#pragma once

// Tile kernels with the tiles emulated (emulated-tiles.h). They end in AVX-512 code, and so does whatever
// else is compiled with them, the library's templates among it: in a test's own file the linker might give
// those to every other test. Call them only where hasAvx512().

#include <algorithm>
#include <cstdio>

#include "cpu/attention/kernels.h"
#include "cpu/isa.h"
#include "cpu/matmul/kernels.h"

namespace tandem::test {

inline bool hasAvx512() {
  if (std::ranges::count(availableIsas(), Isa::avx512) > 0) return true;
  std::printf("skipped: the processor lacks AVX-512\n");
  return false;
}

void attendPageOnEmulatedTiles(const cpu::QueryTile& tile, const cpu::PageTile& page, cpu::Prefetch& next);

struct EmulatedTileKernels {
  decltype(cpu::kPortableKernels.bf16Dot) bf16Dot;
  decltype(cpu::kPortableKernels.int8Dot) int8Dot;
  decltype(cpu::kPortableKernels.widenInt4) widenInt4;
};
extern const EmulatedTileKernels kEmulatedTileKernels;

}  // namespace tandem::test
