#pragma once

#include <cstdint>

#include "cuda/matmul-plan.h"
#include "cuda/matmul.h"

namespace tandem::cuda {

// A matmul as kernels see it.
struct MatmulProblem {
  const bf16* x = nullptr;  // [rows, w.inputs]
  WeightTiles w;
  const float* bias = nullptr;
  void* y = nullptr;
  Epilogue epilogue = Epilogue::store;
  std::int64_t rows = 0;

  TANDEM_HOST_DEVICE int steps() const { return static_cast<int>(w.steps()); }
  // Columns of y.
  TANDEM_HOST_DEVICE int width() const {
    return static_cast<int>(epilogue == Epilogue::swiGlu ? w.outputs / 2 : w.outputs);
  }
  // Eights of outputs that must stay together: one of gate and one of up.
  TANDEM_HOST_DEVICE int granularity() const { return epilogue == Epilogue::swiGlu ? 2 : 1; }
  // Eights of outputs of W that lead to columns of y.
  TANDEM_HOST_DEVICE int eights() const {
    return (width() + kOutputsOfUnit - 1) / kOutputsOfUnit * granularity();
  }
};

inline MatmulShape shapeOf(const MatmulProblem& problem) {
  return {problem.rows, problem.eights(), problem.granularity(), problem.steps(), problem.w.weightClass};
}

}  // namespace tandem::cuda
