#include "cpu/attention/codes-avx512.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/page-promise.inl"
#include "cpu/attention/tile-attention.h"
#include "cpu/matmul/tile.h"

namespace tandem::cpu {

const AttentionKernels kAmxAttention = {attendPageOnTiles<HardwareTiles>,
                                        {},
                                        expandCodesAvx512,
                                        unpackCodesAvx512,
                                        foldQueriesAvx512,
                                        promiseOfPage};

}  // namespace tandem::cpu
