#pragma once

// What the attention of AVX2 and that of AVX-VNNI have in common.

#include <cstddef>
#include <cstdint>

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

void attendPageAvx2(const QueryTile& tile, const PageTile& page, Prefetch& next);
void quantizeQueriesAvx2(const QueryNumbers& queries);

void unpackCodesAvx2(int bits, const std::byte* codes, int headDim, int columns, bf16* out, Prefetch& next);
void foldQueriesAvx2(const QueryFold& fold);

}  // namespace tandem::cpu
