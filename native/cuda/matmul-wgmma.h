#pragma once

#include "cuda/matmul-plan.h"
#include "cuda/matmul-problem.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// By wgmma and bulk copies, which 9.0 alone has.
void matmulByWgmma(const MatmulProblem& problem, int sms, Stream stream);

}  // namespace tandem::cuda
