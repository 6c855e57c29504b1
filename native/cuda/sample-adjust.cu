// Reads and writes the logits that are changed and keeps what they were: 8 bytes of a change, and three
// sectors of memory, since neighbours in the list are strangers in the row. A few FLOP.

#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/sample-kernels.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 512;

__global__ void __launch_bounds__(kThreads)
    adjust(const SampleStep step, float* const allLogits, const SampleRows rows) {
  const int row = rows.of[blockIdx.x];
  const SampleRow& wants = step.rows[row];
  const AdjustmentRange& range = wants.adjustments;
  const Adjustment* adjustments = step.adjustments;
  float* logits = allLogits + row * static_cast<std::int64_t>(step.vocab);

  for (std::uint32_t i = range.seen + threadIdx.x; i < range.end; i += kThreads) {
    if (adjustments[i].token != kUnknownToken) step.unadjusted[i] = logits[adjustments[i].token];
  }
  __syncthreads();
  for (std::uint32_t i = range.seen + threadIdx.x; i < range.bias; i += kThreads) {
    const auto [token, count] = adjustments[i];
    if (token == kUnknownToken) continue;
    float logit = step.unadjusted[i];
    // Hugging Face: the penalty pulls a logit towards minus infinity on either side of zero.
    logit = logit > 0 ? logit / wants.repetition : __fmul_rn(logit, wants.repetition);
    if (count > 0) logit = __fsub_rn(logit, __fadd_rn(__fmul_rn(wants.frequency, count), wants.presence));
    logits[token] = logit;
  }
  __syncthreads();
  // A token's biases lie together; the first one's thread adds them all, in their order.
  for (std::uint32_t i = range.bias + threadIdx.x; i < range.suppressed; i += kThreads) {
    const std::int32_t token = adjustments[i].token;
    if (i > range.bias && adjustments[i - 1].token == token) continue;
    float logit = logits[token];
    for (std::uint32_t j = i; j < range.suppressed && adjustments[j].token == token; ++j) {
      logit += adjustments[j].value;
    }
    logits[token] = logit;
  }
  __syncthreads();
  for (std::uint32_t i = range.suppressed + threadIdx.x; i < range.end; i += kThreads) {
    logits[adjustments[i].token] = logitOf(kOrderOfMinusInfinity);
  }
}

// Of equal tokens in the list any will do: all kept the same logit.
__global__ void __launch_bounds__(kThreads) readLogit(const SampleStep step, const SampleRows rows) {
  const int row = rows.of[blockIdx.x];
  const SampleRow& wants = step.rows[row];
  const std::int32_t token = wants.target >= 0 ? wants.target : step.tokens[row];
  if (token < 0) return;
  if (threadIdx.x == 0) step.wanted[row] = step.logits[row * static_cast<std::int64_t>(step.vocab) + token];
  __syncthreads();
  for (std::uint32_t i = wants.adjustments.seen + threadIdx.x; i < wants.adjustments.end; i += kThreads) {
    if (step.adjustments[i].token == token) step.wanted[row] = step.unadjusted[i];
  }
}

}  // namespace

void adjustLogits(const SampleStep& step, float* logits, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  launch("adjustLogits", adjust, dim3(static_cast<unsigned>(rows.count)), kThreads, stream, step, logits,
         rows);
}

void readLogits(const SampleStep& step, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  launch("readLogits", readLogit, dim3(static_cast<unsigned>(rows.count)), kThreads, stream, step, rows);
}

}  // namespace tandem::cuda
