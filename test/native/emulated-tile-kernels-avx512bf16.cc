#include "emulated-tile-kernels.h"

#include "cpu/attention/tile-attention.h"
#include "cpu/matmul/integers-avx512.h"
#include "cpu/matmul/tile-kernels.h"
#include "emulated-tiles.h"

namespace tandem::test {

void attendPageOnEmulatedTiles(const cpu::QueryTile& tile, const cpu::PageTile& page, cpu::Prefetch& next) {
  cpu::attendPageOnTiles<EmulatedTiles>(tile, page, next);
}

using Emulated = cpu::TileKernels<EmulatedTiles>;
const EmulatedTileKernels kEmulatedTileKernels{Emulated::bf16Dot, Emulated::int8Dot, cpu::avx512::widenInt4};

}  // namespace tandem::test
