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

  static void int8Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
                      const std::uint8_t* panel, const float* scales, Ahead, float* c) {
    integerDot(rows, a, groupBegin, groupEnd, scales, c, [&](std::size_t input) {
      const std::uint8_t* codes = panel + input * kPanel;
      prefetch(rows, codes, kTileBytes * kPanel);
      return codes;
    });
  }

  static void int4Dot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
                      const std::uint8_t* panel, const float* scales, Ahead, float* c) {
    alignas(64) std::uint8_t wide[kTileBytes * kPanel];
    integerDot(rows, a, groupBegin, groupEnd, scales, c, [&](std::size_t input) {
      const std::uint8_t* codes = panel + input * kPanel / 2;
      prefetch(rows, codes, kTileBytes * kPanel / 2);
      const __m512i low = _mm512_set1_epi8(15);
      for (std::size_t row = 0; row < kTileBytes / 8; ++row) {
        for (std::size_t i = 0; i < kRowBytes; i += 64) {
          const __m512i bytes = _mm512_loadu_si512(codes + row * kRowBytes + i);
          std::uint8_t* out = wide + 2 * row * kRowBytes + i;
          _mm512_store_si512(out, _mm512_and_si512(bytes, low));
          _mm512_store_si512(out + kRowBytes, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low));
        }
      }
      return static_cast<const std::uint8_t*>(wide);
    });
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
  static void addGroup(int rows, const QuantizedRows& a, std::size_t group, const std::int32_t* dots,
                       const float* scales, float* c) {
    for (int n = 0; n < kPanel; n += 16) {
      const __m512 weightScale = _mm512_loadu_ps(scales + group * kPanel + n);
      for (int row = 0; row < rows; ++row) {
        const __m512i correction = _mm512_set1_epi32(a.corrections[row * a.groups + group]);
        const __m512i dot = _mm512_add_epi32(_mm512_load_si512(dots + row * kPanel + n), correction);
        const __m512 scale = _mm512_mul_ps(weightScale, _mm512_set1_ps(a.scales[row * a.groups + group]));
        float* out = c + row * kPanel + n;
        const __m512 before = group == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out);
        _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, before));
      }
    }
  }

  // `weightsAt(input)`: the codes [16][kPanel][4] of 64 inputs from `input` on. A group's sums are scaled
  // while the tiles, which work beside the vector units, multiply the next group: the two take about as long.
  template <class WeightsAt>
  static void integerDot(int rows, const QuantizedRows& a, std::size_t groupBegin, std::size_t groupEnd,
                         const float* scales, float* c, WeightsAt weightsAt) {
    Tiles::configure(rows);
    alignas(64) std::int32_t dots[2][kTileHeight * kPanel];
    for (std::size_t group = groupBegin; group < groupEnd; ++group) {
      unroll<kTiles>([&](auto tile) { Tiles::template zero<tile>(); });
      for (std::size_t k = group * kGroup; k < (group + 1) * kGroup; k += kTileBytes) {
        Tiles::template load<4>(a.codes + k, a.stride);
        const std::uint8_t* weights = weightsAt(k);
        unroll<kTiles>([&](auto tile) {
          Tiles::template load<5>(weights + tile * 64, kRowBytes);
          Tiles::template dotInt8<tile>();
        });
      }
      if (group > groupBegin) addGroup(rows, a, group - 1, dots[(group - 1) % 2], scales, c);
      unroll<kTiles>([&](auto tile) {
        Tiles::template store<tile>(dots[group % 2] + tile * 16, kPanel * sizeof(std::int32_t));
      });
    }
    addGroup(rows, a, groupEnd - 1, dots[(groupEnd - 1) % 2], scales, c);
    Tiles::release();
  }
};

}  // namespace tandem::cpu
