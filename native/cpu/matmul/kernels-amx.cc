#include "cpu/matmul/integers-avx512.h"
#include "cpu/matmul/rows-avx512.h"
#include "cpu/matmul/tile-kernels.h"
#include "cpu/matmul/tile.h"

namespace tandem::cpu {

using Amx = TileKernels<HardwareTiles>;

const Kernels kAmxKernels{kTileHeight,
                          false,
                          Amx::bf16Dot,
                          Amx::int8Dot,
                          nullptr,
                          avx512::widenInt4,
                          avx512::roundRowBf16,
                          avx512::quantizeGroup,
                          avx512::swiGlu};

}  // namespace tandem::cpu
