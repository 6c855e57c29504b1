#pragma once

// native/cuda/wgmma.h on the host. Each thread computes the sums that it holds, from what then lies in shared
// memory.

#include <algorithm>
#include <cstdint>

#include "cuda-emulation.h"

#define TANDEM_WGMMA 1

namespace tandem::cuda {

// The address of the operand's first element; the swizzle goes by addresses.
using Operand = std::uintptr_t;

inline Operand operandAt(const std::byte* tile, int k16) {
  const auto address = reinterpret_cast<Operand>(tile);
  check(address % 1024 == 0, "an operand of wgmma is aligned to 1024 bytes");
  return address + 32 * k16;
}

inline Operand operandBehind(Operand operand, int bytes) { return operand + bytes; }

// Where 8 elements of a row are that the swizzle keeps together, the first or second eight of a product's 16.
inline const void* pieceOf(Operand operand, int row, int piece) {
  const Operand plain = operand + row / 8 * 1024 + row % 8 * 128 + 16 * piece;
  return reinterpret_cast<const void*>(plain ^ (plain >> 7 & 7) << 4);
}

// Says once for a warp that its tensor cores read rows of an operand.
TANDEM_UNSEEN inline void noteOperand(int which, Operand operand, int first, int rows, const void* site) {
  using namespace emulation::races;
  if (!look.isOn || emulation::laneIndex() != 0) return;
  const int end = std::min(first + rows, operandRows(which));
  for (int row = first; row < end; ++row) {
    for (int piece = 0; piece < 2; ++piece) {
      access(By::tensorCores, Does::read, pieceOf(operand, row, piece), 16, site);
    }
  }
}

inline void useOperandRows(int a, int b) { emulation::races::useOperandRows(a, b); }

inline void beginProducts() {}
inline void endProductGroup() {
  emulation::races::endGroup(emulation::races::By::tensorCores);
  emulation::endProductGroup();
}
template <int kLeft>
void waitForProducts() {
  emulation::races::waitForGroups(emulation::races::By::tensorCores, kLeft);
  emulation::waitForProducts(kLeft);
}

template <int kRegisters>
void takeRegisters() {}
template <int kRegisters>
void giveRegisters() {}

template <int kEights>
void settle(float (&)[kEights][4]) {}

template <int kEights>
TANDEM_UNSEEN void multiply(float (&sums)[kEights][4], const std::uint32_t (&a)[4], Operand b,
                            bool adds = true) {
  noteOperand(1, b, 0, 8 * kEights, __builtin_return_address(0));
  emulation::beginProduct({&sums[0][0], kEights, {a[0], a[1], a[2], a[3]}, 0, b, adds});
}

template <int kEights>
TANDEM_UNSEEN void multiply(float (&sums)[kEights][4], Operand a, Operand b, bool adds = true) {
  noteOperand(0, a, static_cast<int>(threadIdx.x) / 32 % 4 * 16, 16, __builtin_return_address(0));
  noteOperand(1, b, 0, 8 * kEights, __builtin_return_address(0));
  emulation::beginProduct({&sums[0][0], kEights, {}, a, b, adds});
}

}  // namespace tandem::cuda
