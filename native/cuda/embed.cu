// Reads a row of the table and writes it: 4 bytes an element.

#include "cuda/embed.h"

#include "core/error.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWidth = 8;  // elements of a 16-byte access

__global__ void __launch_bounds__(kThreads) copyRow(const Embed problem) {
  const bf16* from = problem.table + static_cast<std::int64_t>(problem.tokens[blockIdx.x]) * problem.cols;
  bf16* to = problem.out + static_cast<std::int64_t>(blockIdx.x) * problem.cols;
  for (int col = static_cast<int>(threadIdx.x) * kWidth; col < problem.cols; col += kThreads * kWidth) {
    *reinterpret_cast<uint4*>(to + col) = *reinterpret_cast<const uint4*>(from + col);
  }
}

}  // namespace

void embed(const Embed& problem, Stream stream) {
  check(problem.cols > 0 && problem.cols % kWidth == 0, "embed supports rows of a multiple of 8");
  if (problem.rows == 0) return;
  launch("embed", copyRow, dim3(static_cast<unsigned>(problem.rows)), kThreads, stream, problem);
}

}  // namespace tandem::cuda
