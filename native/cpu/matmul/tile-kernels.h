#pragma once

// The matmul's inner loops on two-dimensional registers: up to 16 rows by 64 outputs, four tiles of sums.
// `Tiles` is HardwareTiles, or the tests' emulation.

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/matmul/kernels.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

inline constexpr int kTileHeight = 16;

template <class Tiles>
struct TileKernels {
  static constexpr std::size_t kRowBytes = kPanel * 4;  // of a panel: 64 outputs, 4 bytes each
  static constexpr std::size_t kTileBytes = 64;         // of inputs that one tile is deep
  static constexpr int kTiles = kPanel / 16;

  static void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs,
                      bool first, Ahead, float* c) {
    Tiles::configure(rows);
    unroll<kTiles>([&](auto tile) {
      if (first) {
        Tiles::template zero<tile>();
      } else {
        Tiles::template load<tile>(c + tile * 16, kPanel * sizeof(float));
      }
    });
    constexpr std::size_t kDepth = kTileBytes / sizeof(bf16);
    std::size_t k = 0;
    for (; k + kDepth <= inputs; k += kDepth) {
      prefetch(rows, panel + k * kPanel, kDepth * kPanel * sizeof(bf16));
      step(a + k, stride * sizeof(bf16), panel + k * kPanel);
    }
    if (k < inputs) {
      // The last inputs, padded: their neighbours in memory are the next row's, and the panel ends.
      alignas(64) bf16 inputTail[kTileHeight * kDepth] = {};
      alignas(64) bf16 panelTail[kDepth * kPanel] = {};
      for (int row = 0; row < rows; ++row) {
        std::copy(a + row * stride + k, a + row * stride + inputs, inputTail + row * kDepth);
      }
      std::copy(panel + k * kPanel, panel + inputs * kPanel, panelTail);
      step(inputTail, kTileBytes, panelTail);
    }
    unroll<kTiles>([&](auto tile) { Tiles::template store<tile>(c + tile * 16, kPanel * sizeof(float)); });
    Tiles::release();
  }

  // A group's sums are scaled while the tiles, which work beside the vector units, multiply the next group:
  // the two take about as long.
  static void int8Dot(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups,
                      bool first, Ahead, float* c) {
    Tiles::configure(rows);
    alignas(64) std::int32_t dots[2][kTileHeight * kPanel];
    const std::uint8_t* weights = panel.codes;
    for (std::size_t group = 0; group < groups; ++group) {
      unroll<kTiles>([&](auto tile) { Tiles::template zero<tile>(); });
      for (std::size_t k = group * kGroup; k < (group + 1) * kGroup; k += kTileBytes) {
        prefetch(rows, weights, kTileBytes * kPanel);
        Tiles::template load<4>(a.codes + k, a.stride);
        unroll<kTiles>([&](auto tile) {
          Tiles::template load<5>(weights + tile * 64, kRowBytes);
          Tiles::template dotInt8<tile>();
        });
        weights += kTileBytes * kPanel;
      }
      if (group > 0) addGroup(rows, a, panel, group - 1, dots[(group - 1) % 2], first, c);
      unroll<kTiles>([&](auto tile) {
        Tiles::template store<tile>(dots[group % 2] + tile * 16, kPanel * sizeof(std::int32_t));
      });
    }
    addGroup(rows, a, panel, groups - 1, dots[(groups - 1) % 2], first, c);
    Tiles::release();
  }

 private:
  static void step(const bf16* inputs, std::size_t strideBytes, const bf16* panel) {
    Tiles::template load<4>(inputs, strideBytes);
    unroll<kTiles>([&](auto tile) {
      Tiles::template load<5>(panel + tile * 32, kRowBytes);
      Tiles::template dotBf16<tile>();
    });
  }

  // A step's weights some steps ahead, for calls of few rows, which wait for memory; full ones wait for the
  // tiles.
  static void prefetch(int rows, const void* step, std::size_t bytes) {
    if (rows == kTileHeight) return;
    for (std::size_t byte = 0; byte < bytes; byte += 64) {
      _mm_prefetch(static_cast<const char*>(step) + 2 * bytes + byte, _MM_HINT_T0);
    }
  }

  // c += scaled sums of a group
  static void addGroup(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t group,
                       const std::int32_t* dots, bool first, float* c) {
    for (int n = 0; n < kPanel; n += 16) {
      const __m512 weightScale = _mm512_loadu_ps(panel.scales + group * kPanel + n);
      for (int row = 0; row < rows; ++row) {
        const __m512i correction = _mm512_set1_epi32(a.corrections[row * a.groups + group]);
        const __m512i dot = _mm512_add_epi32(_mm512_load_si512(dots + row * kPanel + n), correction);
        const __m512 scale = _mm512_mul_ps(weightScale, _mm512_set1_ps(a.scales[row * a.groups + group]));
        float* out = c + row * kPanel + n;
        const __m512 before = first && group == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out);
        _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, before));
      }
    }
  }
};

}  // namespace tandem::cpu
