// Reads and writes 8 bytes a page, in each layer of a step with rows that do not look everywhere.

#include "cuda/gather-pages.h"

#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;
static_assert(kWordPages == 32, "a warp takes a word");

__global__ void __launch_bounds__(kThreads) gather(const GatherPages problem) {
  const int sequence = static_cast<int>(blockIdx.y);
  const int page = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const SeenRow row = problem.rows[sequence];
  if (page >= row.pages) return;
  const SeenWord word = problem.words[row.word + page / kWordPages];
  const std::uint32_t own = 1u << (page % kWordPages);
  std::uint64_t* to = problem.to + sequence * problem.tables.slotStride;
  const bool seen = (word.bits & own) != 0;
  if (!problem.closesUp) {
    to[page] = seen ? problem.tables.entry(sequence, page) : 0;
  } else if (seen) {
    to[word.before + static_cast<std::uint32_t>(__popc(word.bits & (own - 1)))] =
        problem.tables.entry(sequence, page);
  }
}

}  // namespace

void gatherPages(const GatherPages& problem, Stream stream) {
  if (problem.sequences == 0 || problem.mostPages == 0) return;
  const dim3 grid(static_cast<unsigned>((problem.mostPages + kThreads - 1) / kThreads),
                  static_cast<unsigned>(problem.sequences));
  launch("gatherPages", gather, grid, kThreads, stream, problem);
}

}  // namespace tandem::cuda
