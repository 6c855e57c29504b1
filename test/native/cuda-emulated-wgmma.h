#pragma once

// native/cuda/wgmma.h on the host. Each thread computes the sums that it holds, from what then lies in shared
// memory.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "core/bf16.h"
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

// 16 elements of a row, from the operand's first on. The swizzle keeps pieces of 16 bytes together, which are
// converted in one go: each of the eight threads that share a row converts it, and longer than it multiplies.
struct RowOfOperand {
  double of[16];
  TANDEM_UNSEEN RowOfOperand(Operand operand, int row) {
    using Elements = std::uint16_t __attribute__((vector_size(16)));
    using Floats = float __attribute__((vector_size(32)));
    using Doubles = double __attribute__((vector_size(64)));
    static_assert(sizeof(bf16) == sizeof(std::uint16_t));
    for (int piece = 0; piece < 2; ++piece) {
      const Operand plain = operand + row / 8 * 1024 + row % 8 * 128 + 16 * piece;
      Elements elements;
      std::memcpy(&elements, reinterpret_cast<const void*>(plain ^ (plain >> 7 & 7) << 4), sizeof elements);
      // bf16 is the upper half of a float.
      const auto bits = __builtin_convertvector(elements, std::uint32_t __attribute__((vector_size(32))))
                        << 16;
      Floats floats;
      std::memcpy(&floats, &bits, sizeof floats);
      const Doubles doubles = __builtin_convertvector(floats, Doubles);
      std::memcpy(of + 8 * piece, &doubles, sizeof doubles);
    }
  }
};

// Says once for a warp that its tensor cores read rows of an operand.
TANDEM_UNSEEN inline void noteOperand(int which, Operand operand, int first, int rows, const void* site) {
  using namespace emulation::races;
  if (!isLooking() || emulation::laneIndex() != 0) return;
  const int end = std::min(first + rows, operandRows(which));
  for (int row = first; row < end; ++row) {
    for (int piece = 0; piece < 2; ++piece) {
      const Operand plain = operand + row / 8 * 1024 + row % 8 * 128 + 16 * piece;
      access(By::tensorCores, Does::read, reinterpret_cast<const void*>(plain ^ (plain >> 7 & 7) << 4), 16,
             site);
    }
  }
}

// Adds to the sums that this thread holds: rows lane / 4 and 8 below it of its warp, of which `left` are the
// elements, and two columns of every eight. The four sums of an eight grow beside each other, each in the
// order of k: one alone waits for its last addition.
template <int kEights>
void addProducts(float (&sums)[kEights][4], const double (&left)[2][16], Operand b) {
  const int lane = static_cast<int>(emulation::laneIndex());
  using Pair = double __attribute__((vector_size(16)));
  Pair rows[16];
  for (int k = 0; k < 16; ++k) rows[k] = Pair{left[0][k], left[1][k]};
  for (int eight = 0; eight < kEights; ++eight) {
    const RowOfOperand first(b, 8 * eight + lane % 4 * 2), second(b, 8 * eight + lane % 4 * 2 + 1);
    float(&sum)[4] = sums[eight];
    Pair ofFirst{sum[0], sum[2]}, ofSecond{sum[1], sum[3]};
    for (int k = 0; k < 16; ++k) {
      ofFirst += rows[k] * first.of[k];
      ofSecond += rows[k] * second.of[k];
    }
    sum[0] = static_cast<float>(ofFirst[0]);
    sum[1] = static_cast<float>(ofSecond[0]);
    sum[2] = static_cast<float>(ofFirst[1]);
    sum[3] = static_cast<float>(ofSecond[1]);
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
void multiplyNow(float (&sums)[kEights][4], const std::array<std::uint32_t, 4>& a, Operand b, bool adds) {
  if (!adds) std::fill(&sums[0][0], &sums[0][0] + 4 * kEights, 0.0f);
  struct Rows {
    double of[2][16];
  };
  const int lane = static_cast<int>(emulation::laneIndex());
  const Rows left = emulation::exchange(a, [&](auto of) {
    Rows rows;
    for (int half = 0; half < 2; ++half) {
      for (int k = 0; k < 16; ++k) {
        const std::uint32_t pair = of(lane / 4 * 4 + k % 8 / 2)[half + 2 * (k / 8)];
        rows.of[half][k] = toFloat(static_cast<bf16>(pair >> (16 * (k % 2))));
      }
    }
    return rows;
  });
  addProducts(sums, left.of, b);
}

template <int kEights>
void multiplyNow(float (&sums)[kEights][4], Operand a, Operand b, bool adds) {
  if (!adds) std::fill(&sums[0][0], &sums[0][0] + 4 * kEights, 0.0f);
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(emulation::laneIndex());
  double left[2][16];
  for (int half = 0; half < 2; ++half) {
    const RowOfOperand row(a, 16 * warp + lane / 4 + 8 * half);
    std::copy(row.of, row.of + 16, left[half]);
  }
  addProducts(sums, left, b);
}

template <int kEights>
void multiply(float (&sums)[kEights][4], const std::uint32_t (&a)[4], Operand b, bool adds = true) {
  noteOperand(1, b, 0, 8 * kEights, __builtin_return_address(0));
  const auto multiplyRegisters = [](const emulation::Product& product) {
    multiplyNow(reinterpret_cast<float(&)[kEights][4]>(*product.sums), product.registers, product.b,
                product.adds);
  };
  emulation::beginProduct({multiplyRegisters, &sums[0][0], {a[0], a[1], a[2], a[3]}, 0, b, adds});
}

template <int kEights>
void multiply(float (&sums)[kEights][4], Operand a, Operand b, bool adds = true) {
  noteOperand(0, a, static_cast<int>(threadIdx.x) / 32 % 4 * 16, 16, __builtin_return_address(0));
  noteOperand(1, b, 0, 8 * kEights, __builtin_return_address(0));
  const auto multiplyShared = [](const emulation::Product& product) {
    multiplyNow(reinterpret_cast<float(&)[kEights][4]>(*product.sums), product.a, product.b, product.adds);
  };
  emulation::beginProduct({multiplyShared, &sums[0][0], {}, a, b, adds});
}

}  // namespace tandem::cuda
