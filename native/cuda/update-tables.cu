// Reads and writes 8 bytes an entry: in decode a page in 32 steps for each sequence and layer.

#include "cuda/update-tables.h"

#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) writeUpdate(const UpdateTables problem) {
  const TableUpdate update = problem.updates[blockIdx.x];
  const int layer = static_cast<int>(blockIdx.y);
  std::uint64_t* to = problem.entries +
                      (static_cast<std::int64_t>(layer) * problem.slots + update.slot) * problem.slotStride +
                      update.first;
  const std::uint64_t* from = problem.values + update.value + static_cast<std::int64_t>(layer) * update.count;
  for (int i = static_cast<int>(threadIdx.x); i < update.count; i += kThreads) to[i] = from[i];
}

}  // namespace

void updateTables(const UpdateTables& problem, Stream stream) {
  if (problem.updateCount == 0) return;
  const dim3 grid(static_cast<unsigned>(problem.updateCount), static_cast<unsigned>(problem.layers));
  launch("updateTables", writeUpdate, grid, kThreads, stream, problem);
}

}  // namespace tandem::cuda
