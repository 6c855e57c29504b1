// Reads 8 bytes a token that was seen, and writes one of them.

#include "cuda/kernel.h"
#include "cuda/sample-kernels.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    count(const SampleStep step, Adjustment* const adjustments, const SampleRows rows) {
  __shared__ bool isSeen;
  const SampleRow& wants = step.rows[rows.of[blockIdx.x]];
  const std::int32_t token = step.tokens[wants.carried];
  const std::uint32_t unknown = wants.adjustments.bias - 1;
  if (threadIdx.x == 0) isSeen = false;
  __syncthreads();
  for (std::uint32_t i = wants.adjustments.seen + threadIdx.x; i < unknown; i += kThreads) {
    if (adjustments[i].token != token) continue;  // it is there once at most
    adjustments[i].value += 1;
    isSeen = true;
  }
  __syncthreads();
  // Where none was drawn that step fails, and this one with it.
  if (threadIdx.x == 0 && !isSeen && token >= 0) adjustments[unknown].token = token;
}

}  // namespace

void countCarried(const SampleStep& step, Adjustment* adjustments, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  launch("countCarried", count, dim3(static_cast<unsigned>(rows.count)), kThreads, stream, step, adjustments,
         rows);
}

}  // namespace tandem::cuda
