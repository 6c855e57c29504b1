#pragma once

#include "cuda/matmul-problem.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// By mma.sync, which every architecture from 8.0 on has.
void matmulByMma(const MatmulProblem& problem, int sms, Stream stream);

}  // namespace tandem::cuda
