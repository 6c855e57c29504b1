// Reads each logit once: 4 bytes and a comparison. A row is shared by several blocks, since one SM reads a
// fraction of what the memory gives. The highest is the same in any order, so no order is kept.

#include "cuda/argmax.h"

#include "core/error.h"
#include "cuda/kernel.h"
#include "cuda/logit-order.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPart = 8192;  // logits of a block

constexpr std::uint64_t kNanKey = ~std::uint64_t{0};

// NaN is above all.
__device__ std::uint64_t keyOrNan(float logit, int token) {
  return logit != logit ? kNanKey : keyOf(orderOf(logit), token);
}

__device__ std::int32_t tokenOf(std::uint64_t key) {
  if (key == kNanKey) return kNanLogits;
  if (orderIn(key) == kOrderOfInfinity) return kInfiniteLogits;
  if (orderIn(key) == kOrderOfMinusInfinity) return kNoLogits;
  return tokenIn(key);
}

__global__ void __launch_bounds__(kThreads) highestOfPart(const Argmax problem) {
  const float* logits = problem.logits + blockIdx.y * static_cast<std::int64_t>(problem.vocab);
  const int begin = static_cast<int>(blockIdx.x) * kPart;
  const int end = begin + kPart < problem.vocab ? begin + kPart : problem.vocab;
  std::uint64_t highest = 0;
#pragma unroll 8
  for (int token = begin + static_cast<int>(threadIdx.x); token < end; token += kThreads) {
    const std::uint64_t key = keyOrNan(logits[token], token);
    highest = key > highest ? key : highest;
  }
  __shared__ unsigned long long warps[kThreads / 32];
  highest = warpHighest(highest);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = highest;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (const std::uint64_t key : warps) highest = key > highest ? key : highest;
  problem.parts[blockIdx.y * static_cast<std::int64_t>(gridDim.x) + blockIdx.x] = highest;
}

__global__ void __launch_bounds__(32) highestOfRow(const Argmax problem, int parts) {
  std::uint64_t highest = 0;
  for (int part = static_cast<int>(threadIdx.x); part < parts; part += 32) {
    const std::uint64_t key = problem.parts[blockIdx.x * static_cast<std::int64_t>(parts) + part];
    highest = key > highest ? key : highest;
  }
  highest = warpHighest(highest);
  if (threadIdx.x != 0) return;
  problem.tokens[blockIdx.x] = tokenOf(highest);
  if (problem.highest) problem.highest[blockIdx.x] = logitOf(orderIn(highest));
}

int partsOf(int vocab) { return (vocab + kPart - 1) / kPart; }

}  // namespace

std::size_t argmaxScratch(std::int64_t rows, int vocab) {
  return static_cast<std::size_t>(rows) * partsOf(vocab) * sizeof(std::uint64_t);
}

void argmax(const Argmax& problem, Stream stream) {
  check(problem.vocab > 0, "argmax: there are no logits");
  check(problem.rows <= 65535, "argmax takes up to 65535 rows at a time");
  if (problem.rows == 0) return;
  const int parts = partsOf(problem.vocab);
  const auto rows = static_cast<unsigned>(problem.rows);
  launch("argmax", highestOfPart, dim3(static_cast<unsigned>(parts), rows), kThreads, stream, problem);
  launch("argmax's second half", highestOfRow, dim3(rows), 32, stream, problem, parts);
}

}  // namespace tandem::cuda
