#pragma once

#include "cpu/attention/kernels.h"

namespace tandem::cpu {

void quantizeQueriesAvx512(const QueryNumbers& queries);

}  // namespace tandem::cpu
