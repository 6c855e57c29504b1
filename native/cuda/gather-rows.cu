// Reads a row and writes it: 4 bytes an element.

#include "cuda/gather-rows.h"

#include <algorithm>

#include "core/error.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWidth = 8;             // elements of a 16-byte access
constexpr std::size_t kAtOnce = 256;  // rows of a launch: 2 KB of the 4 KB that its arguments may have

struct Rows {
  std::int64_t of[kAtOnce];
};

__global__ void __launch_bounds__(kThreads) gatherRow(const bf16* x, const Rows rows, bf16* out, int cols) {
  const bf16* from = x + rows.of[blockIdx.x] * cols;
  bf16* to = out + static_cast<std::int64_t>(blockIdx.x) * cols;
  for (int col = static_cast<int>(threadIdx.x) * kWidth; col < cols; col += kThreads * kWidth) {
    *reinterpret_cast<uint4*>(to + col) = *reinterpret_cast<const uint4*>(from + col);
  }
}

}  // namespace

void gatherRows(const GatherRows& problem, Stream stream) {
  check(problem.cols > 0 && problem.cols % kWidth == 0, "gatherRows supports rows of a multiple of 8");
  for (std::size_t begin = 0; begin < problem.rows.size(); begin += kAtOnce) {
    const auto part = problem.rows.subspan(begin, std::min(kAtOnce, problem.rows.size() - begin));
    Rows rows;
    std::ranges::copy(part, rows.of);
    launch("gatherRows", gatherRow, dim3(static_cast<unsigned>(part.size())), kThreads, stream, problem.x,
           rows, problem.out + static_cast<std::int64_t>(begin) * problem.cols, problem.cols);
  }
}

}  // namespace tandem::cuda
