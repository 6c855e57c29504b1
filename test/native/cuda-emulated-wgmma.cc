#include "cuda-emulated-wgmma.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/bf16.h"

namespace tandem::emulation {
namespace {

using cuda::Operand;

// 16 elements of a row, from the operand's first on. The swizzle keeps pieces of 16 bytes together, which are
// converted in one go: each of the eight threads that share a row converts it, and longer than it multiplies.
struct RowOfOperand {
  double of[16];
  RowOfOperand(Operand operand, int row) {
    using Elements = std::uint16_t __attribute__((vector_size(16)));
    using Floats = float __attribute__((vector_size(32)));
    using Doubles = double __attribute__((vector_size(64)));
    static_assert(sizeof(bf16) == sizeof(std::uint16_t));
    for (int piece = 0; piece < 2; ++piece) {
      Elements elements;
      std::memcpy(&elements, cuda::pieceOf(operand, row, piece), sizeof elements);
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

// Rows lane / 4 of its warp's and 8 below it.
struct Rows {
  double of[2][16];
};

// Adds to the sums that this thread holds: rows lane / 4 and 8 below it of its warp, of which `left` are the
// elements, and two columns of every eight. The four sums of an eight grow beside each other, each in the
// order of k: one alone waits for its last addition.
void addProducts(float (*sums)[4], int eights, const Rows& left, Operand b) {
  const int lane = static_cast<int>(emulation::laneIndex());
  using Pair = double __attribute__((vector_size(16)));
  Pair rows[16];
  for (int k = 0; k < 16; ++k) rows[k] = Pair{left.of[0][k], left.of[1][k]};
  for (int eight = 0; eight < eights; ++eight) {
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

Rows rowsInRegisters(const std::array<std::uint32_t, 4>& registers) {
  const int lane = static_cast<int>(laneIndex());
  return exchange(registers, [&](auto of) {
    Rows rows;
    for (int half = 0; half < 2; ++half) {
      for (int k = 0; k < 16; ++k) {
        const std::uint32_t pair = of(lane / 4 * 4 + k % 8 / 2)[half + 2 * (k / 8)];
        rows.of[half][k] = toFloat(static_cast<bf16>(pair >> (16 * (k % 2))));
      }
    }
    return rows;
  });
}

Rows rowsInShared(Operand a) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(laneIndex());
  Rows rows;
  for (int half = 0; half < 2; ++half) {
    const RowOfOperand row(a, 16 * warp + lane / 4 + 8 * half);
    std::copy(row.of, row.of + 16, rows.of[half]);
  }
  return rows;
}

}  // namespace

void Product::compute() const {
  auto* const own = reinterpret_cast<float(*)[4]>(sums);
  if (!adds) std::fill(sums, sums + 4 * eights, 0.0f);
  addProducts(own, eights, a == 0 ? rowsInRegisters(registers) : rowsInShared(a), b);
}

}  // namespace tandem::emulation
