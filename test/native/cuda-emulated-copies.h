#pragma once

// native/cuda/bulk-copies.h on the host. Copies are made at once; barriers count arrivals and bytes, and
// waiting lets the other threads of the block go on.

#include <algorithm>
#include <cstring>

#include "core/bf16.h"
#include "cuda-emulation.h"
#include "cuda/rows-map.h"

namespace tandem::cuda {

struct alignas(8) Barrier {
  std::uint16_t awaited, missing;
  std::int32_t bytes : 31;
  std::uint32_t phase : 1;

  TANDEM_UNSEEN void endPhaseIfDone() {
    if (missing != 0 || bytes != 0) return;
    missing = awaited;
    phase ^= 1;
    emulation::noteProgress();
  }
};
static_assert(sizeof(Barrier) == 8);

TANDEM_UNSEEN inline void initialise(Barrier& barrier, unsigned arrivals) {
  using namespace emulation::races;
  access(By::thread, Does::write, &barrier, sizeof barrier, __builtin_return_address(0));
  barrier.awaited = barrier.missing = static_cast<std::uint16_t>(arrivals);
  barrier.bytes = 0;
  barrier.phase = 0;
}
inline void publishBarriers() {}

// Arrivals and waits race with what initialises a barrier, and not with each other.
TANDEM_UNSEEN inline void arriveExpecting(Barrier& barrier, unsigned bytes,
                                          const void* site = __builtin_return_address(0)) {
  using namespace emulation::races;
  access(By::thread, Does::read, &barrier, sizeof barrier, site);
  check(barrier.missing > 0, "more threads arrive at a barrier than it awaits");
  emulation::races::arrive(&barrier, barrier.phase);
  barrier.bytes += static_cast<std::int32_t>(bytes);
  --barrier.missing;
  barrier.endPhaseIfDone();
}
TANDEM_UNSEEN inline void arrive(Barrier& barrier) {
  arriveExpecting(barrier, 0, __builtin_return_address(0));
}
TANDEM_UNSEEN inline void waitFor(Barrier& barrier, unsigned parity) {
  using namespace emulation::races;
  access(By::thread, Does::read, &barrier, sizeof barrier, __builtin_return_address(0));
  while (barrier.phase == parity) emulation::letOthersRun();
  await(&barrier, parity);
}

inline void publishToTensorCores() { emulation::races::publishToTensorCores(); }

TANDEM_UNSEEN inline void arriveBytes(Barrier& barrier, std::size_t bytes) {
  emulation::races::completeBulkCopies(&barrier, barrier.phase);
  barrier.bytes -= static_cast<std::int32_t>(bytes);
  barrier.endPhaseIfDone();
}

TANDEM_UNSEEN inline void copyBulk(void* shared, const void* global, unsigned bytes, Barrier& barrier) {
  check(bytes % 16 == 0 && reinterpret_cast<std::uintptr_t>(shared) % 16 == 0 &&
            reinterpret_cast<std::uintptr_t>(global) % 16 == 0,
        "a bulk copy is of aligned pieces of 16 bytes");
  using namespace emulation::races;
  access(By::bulkCopies, Does::read, global, bytes, __builtin_return_address(0));
  access(By::bulkCopies, Does::write, shared, bytes, __builtin_return_address(0));
  std::memcpy(shared, global, bytes);
  arriveBytes(barrier, bytes);
}

TANDEM_UNSEEN inline void copyBox(void* shared, const RowsMap& map, int row, int col, Barrier& barrier) {
  check(reinterpret_cast<std::uintptr_t>(shared) % 1024 == 0, "a swizzled box is aligned to 1024 bytes");
  using namespace emulation::races;
  const void* site = __builtin_return_address(0);
  access(By::bulkCopies, Does::write, shared, std::size_t{128} * map.boxRows, site);
  const int rows = std::min<int>(map.boxRows, map.count - row), cols = std::min<int>(64, map.cols - col);
  for (int r = 0; r < rows && cols > 0; ++r) {
    access(By::bulkCopies, Does::read, map.rows + (row + r) * map.cols + col, sizeof(bf16) * cols, site);
  }
  auto* out = static_cast<bf16*>(shared);
  for (int r = 0; r < map.boxRows; ++r) {
    for (int c = 0; c < 64; ++c) {
      const bool there = row + r < map.count && col + c < map.cols;
      out[64 * r + (c / 8 ^ r % 8) * 8 + c % 8] = there ? map.rows[(row + r) * map.cols + col + c] : bf16{0};
    }
  }
  arriveBytes(barrier, std::size_t{128} * map.boxRows);
}

}  // namespace tandem::cuda
