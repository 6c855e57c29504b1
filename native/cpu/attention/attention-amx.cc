#include "cpu/attention/codes-amx.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/page-bounds.inl"
#include "cpu/attention/page-scores-avx512.h"
#include "cpu/attention/tile-attention.h"
#include "cpu/matmul/tile.h"

namespace tandem::cpu {

const AttentionKernels kAmxAttention = {.attendPage = attendPageOnTiles<HardwareTiles>,
                                        .boundPage = boundPage,
                                        .scorePage = scorePageAvx512,
                                        .expandCodes = expandCodesAmx,
                                        .unpackCodes = unpackCodesAmx,
                                        .foldQueries = foldQueriesAmx};

}  // namespace tandem::cpu
