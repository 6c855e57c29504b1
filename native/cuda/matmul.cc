#include "cuda/matmul.h"

#include "core/error.h"
#include "cuda/matmul-mma.h"
#include "cuda/matmul-wgmma.h"

namespace tandem::cuda {

void matmul(const Matmul& problem, int sms, Stream stream) {
  const CudaWeight& w = *problem.w;
  check((problem.epilogue == Epilogue::swiGlu) == (w.layout() == WeightLayout::gated),
        "swiGlu takes a gated weight, and a gated weight nothing else");
  check(sms > 0, "a matmul needs at least one SM");
  if (problem.rows == 0) return;
  const MatmulProblem tiled{problem.x, w.tiles(), problem.bias, problem.y, problem.epilogue, problem.rows};
  if (!w.wgmma()) return matmulByMma(tiled, sms, stream);
  matmulByWgmma(tiled, planMatmul(shapeOf(tiled), sms), stream);
}

}  // namespace tandem::cuda
