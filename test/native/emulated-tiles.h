#pragma once

// The interface of cpu/matmul/tile.h, doing what the manual says the AMX instructions do, for the one tile
// layout that the kernels configure: so that tile kernels are tested where the processor has none.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/bf16.h"

namespace tandem::test {

struct EmulatedTiles {
  static void configure(int height) {
    rows = height;
    for (auto& tile : tiles) tile.fill(0xdeadbeef);
  }
  static void release() {}
  template <int Tile>
  static void zero() {
    tiles[Tile].fill(0);
  }
  template <int Tile>
  static void load(const void* data, std::size_t stride) {
    for (int row = 0; row < heightOf(Tile); ++row) {
      std::memcpy(tiles[Tile].data() + row * 16, static_cast<const std::byte*>(data) + row * stride, 64);
    }
  }
  template <int Tile>
  static void store(void* data, std::size_t stride) {
    for (int row = 0; row < heightOf(Tile); ++row) {
      std::memcpy(static_cast<std::byte*>(data) + row * stride, tiles[Tile].data() + row * 16, 64);
    }
  }
  template <int Tile>
  static void dotBf16() {
    each<Tile>([](std::uint32_t sum, std::uint32_t a, std::uint32_t b) {
      float value = std::bit_cast<float>(sum);
      value += toFloat(static_cast<bf16>(a)) * toFloat(static_cast<bf16>(b));
      value += toFloat(static_cast<bf16>(a >> 16)) * toFloat(static_cast<bf16>(b >> 16));
      return std::bit_cast<std::uint32_t>(value);
    });
  }
  template <int Tile>
  static void dotInt8() {
    each<Tile>([](std::uint32_t sum, std::uint32_t a, std::uint32_t b) {
      auto value = static_cast<std::int32_t>(sum);
      for (int shift = 0; shift < 32; shift += 8) {
        value += static_cast<std::int8_t>(a >> shift) * static_cast<std::uint8_t>(b >> shift);
      }
      return static_cast<std::uint32_t>(value);
    });
  }

 private:
  static inline thread_local int rows = 0;
  static inline thread_local std::array<std::array<std::uint32_t, 256>, 6> tiles{};

  static int heightOf(int tile) { return tile == 5 ? 16 : rows; }

  template <int Tile, class Dot>
  static void each(Dot dot) {
    for (int row = 0; row < rows; ++row) {
      for (int n = 0; n < 16; ++n) {
        for (int k = 0; k < 16; ++k) {
          std::uint32_t& sum = tiles[Tile][row * 16 + n];
          sum = dot(sum, tiles[4][row * 16 + k], tiles[5][k * 16 + n]);
        }
      }
    }
  }
};

}  // namespace tandem::test
