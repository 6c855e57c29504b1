// Reads 8 bytes a row and writes 4.

#include "cuda/carry-tokens.h"

#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) carry(const CarryTokens problem) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= problem.rows) return;
  const std::int32_t from = problem.carried[row];
  if (from >= 0) problem.tokens[row] = max(problem.drawn[from], 0);
}

}  // namespace

void carryTokens(const CarryTokens& problem, Stream stream) {
  if (problem.rows == 0) return;
  launch("carryTokens", carry, dim3(static_cast<unsigned>((problem.rows + kThreads - 1) / kThreads)),
         kThreads, stream, problem);
}

}  // namespace tandem::cuda
