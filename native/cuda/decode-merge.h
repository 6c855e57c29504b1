#pragma once

#include "cuda/decode-attention.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// The second kernel of decodeAttention: merges what the first has left of each run by their log-sum-exp, into
// `out`. `runs`: of the longest context.
void mergeDecodeRuns(const DecodeAttention& problem, int runs, Stream stream);

}  // namespace tandem::cuda
