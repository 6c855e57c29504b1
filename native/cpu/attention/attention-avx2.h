#pragma once

// What the attention of AVX2 and that of AVX-VNNI have in common.

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

void attendPageAvx2(const QueryTile& tile, const PageTile& page, Prefetch& next);
void quantizeQueriesAvx2(const QueryNumbers& queries);

}  // namespace tandem::cpu
