#pragma once

// The eight two-dimensional registers of AMX, by the few operations the kernels use. `HardwareTiles` are the
// instructions; tests put in an emulation of the same interface, so that packing, tails and masks are checked
// on machines without them. Written as assembly because GCC's intrinsics are macros that take digits and no
// constants.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace tandem::cpu {

// The tile layout of all kernels here: tiles 0..3 hold sums [rows][16] of 32 bits, tile 4 inputs [rows][64
// bytes], tile 5 weights [16][64 bytes].
struct HardwareTiles {
  static void configure(int rows) {
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t rowBytes[16] = {};
      std::uint8_t rows[16] = {};
    } layout;
    for (int tile = 0; tile < 6; ++tile) {
      layout.rowBytes[tile] = 64;
      layout.rows[tile] = static_cast<std::uint8_t>(tile == 5 ? 16 : rows);
    }
    // The compiler does not see the load's operand as read.
    asm volatile("" : : "m"(layout));
    _tile_loadconfig(&layout);
  }
  static void release() { _tile_release(); }

  template <int Tile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
  }
  template <int Tile>
  static void load(const void* data, std::size_t stride) {
    asm volatile("tileloadd (%1, %2, 1), %%tmm%c0" : : "i"(Tile), "r"(data), "r"(stride) : "memory");
  }
  template <int Tile>
  static void store(void* data, std::size_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1, %2, 1)" : : "i"(Tile), "r"(data), "r"(stride) : "memory");
  }
  // sums += inputs (tile 4) . weights (tile 5), pairs of bf16
  template <int Tile>
  static void dotBf16() {
    asm volatile("tdpbf16ps %%tmm5, %%tmm4, %%tmm%c0" : : "i"(Tile));
  }
  // the same for s8 inputs and u8 weights, four a lane
  template <int Tile>
  static void dotInt8() {
    asm volatile("tdpbsud %%tmm5, %%tmm4, %%tmm%c0" : : "i"(Tile));
  }
};

}  // namespace tandem::cpu
