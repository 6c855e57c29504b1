#pragma once

#include "cuda/matmul-plan.h"
#include "cuda/matmul-problem.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// By wgmma and bulk copies, which 9.0 alone has. `plan` is one for the problem's shape.
void matmulByWgmma(const MatmulProblem& problem, const MatmulPlan& plan, Stream stream);

}  // namespace tandem::cuda
