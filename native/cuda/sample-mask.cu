// Reads a bit of each token and writes 4 bytes for one that is not allowed.

#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/sample-kernels.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    keep(const SampleStep step, float* const allLogits, const SampleRows rows) {
  const int row = rows.of[blockIdx.y];
  const std::uint32_t* mask = step.masks + step.rows[row].mask * std::int64_t{sampleMaskWords(step.vocab)};
  float* logits = allLogits + row * static_cast<std::int64_t>(step.vocab);
  const int begin = static_cast<int>(blockIdx.x) * kSamplePart;
  const int end = min(begin + kSamplePart, step.vocab);
  for (int token = begin + static_cast<int>(threadIdx.x); token < end; token += kThreads) {
    if ((mask[token / 32] >> (token % 32) & 1) == 0) logits[token] = logitOf(kOrderOfMinusInfinity);
  }
}

}  // namespace

void keepAllowed(const SampleStep& step, float* logits, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  const dim3 grid(static_cast<unsigned>(step.parts()), static_cast<unsigned>(rows.count));
  launch("keepAllowed", keep, grid, kThreads, stream, step, logits, rows);
}

}  // namespace tandem::cuda
