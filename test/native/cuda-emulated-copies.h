#pragma once

// native/cuda/bulk-copies.h on the host. Copies are made at once; barriers count arrivals and bytes, and
// waiting lets the other threads of the block go on.

#include <cstring>

#include "core/bf16.h"
#include "cuda-emulation.h"
#include "cuda/rows-map.h"

namespace tandem::cuda {

struct alignas(8) Barrier {
  std::uint16_t awaited, missing;
  std::int32_t bytes : 31;
  std::uint32_t phase : 1;

  void endPhaseIfDone() {
    if (missing != 0 || bytes != 0) return;
    missing = awaited;
    phase ^= 1;
    emulation::noteProgress();
  }
};
static_assert(sizeof(Barrier) == 8);

inline void initialise(Barrier& barrier, unsigned arrivals) {
  barrier.awaited = barrier.missing = static_cast<std::uint16_t>(arrivals);
  barrier.bytes = 0;
  barrier.phase = 0;
}
inline void publishBarriers() {}

inline void arriveExpecting(Barrier& barrier, unsigned bytes) {
  check(barrier.missing > 0, "more threads arrive at a barrier than it awaits");
  barrier.bytes += static_cast<std::int32_t>(bytes);
  --barrier.missing;
  barrier.endPhaseIfDone();
}
inline void arrive(Barrier& barrier) { arriveExpecting(barrier, 0); }
inline void waitFor(Barrier& barrier, unsigned parity) {
  while (barrier.phase == parity) emulation::letOthersRun();
}

inline void publishToTensorCores() {}

inline void arriveBytes(Barrier& barrier, std::size_t bytes) {
  barrier.bytes -= static_cast<std::int32_t>(bytes);
  barrier.endPhaseIfDone();
}

inline void copyBulk(void* shared, const void* global, unsigned bytes, Barrier& barrier) {
  check(bytes % 16 == 0 && reinterpret_cast<std::uintptr_t>(shared) % 16 == 0 &&
            reinterpret_cast<std::uintptr_t>(global) % 16 == 0,
        "a bulk copy is of aligned pieces of 16 bytes");
  std::memcpy(shared, global, bytes);
  arriveBytes(barrier, bytes);
}

inline void copyBox(void* shared, const RowsMap& map, int row, int col, Barrier& barrier) {
  check(reinterpret_cast<std::uintptr_t>(shared) % 1024 == 0, "a swizzled box is aligned to 1024 bytes");
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
