#pragma once

// What becomes of a warp's finished sums.

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/matmul-tile.h"
#include "cuda/matmul-wgmma-block.h"
#include "cuda/wgmma.h"

#if defined(TANDEM_WGMMA)

namespace tandem::cuda::wgmma_matmul {

__device__ inline void storeValue(const MatmulProblem& problem, std::int64_t at, float value) {
  if (problem.epilogue == Epilogue::logits) {
    static_cast<float*>(problem.y)[at] = value;
    return;
  }
  bf16& y = static_cast<bf16*>(problem.y)[at];
  y = roundToBf16(problem.epilogue == Epilogue::add ? value + lowFloat(y) : value);
}

// Columns [8 first, 8 (first + count)) of the tile's rows of y. Rows are computed anew, or the addresses of
// all of them would be computed at once. valueOf(i, sums[j], k): of the lane's column of eight i, in row
// 8j + 2t + k of the tile.
template <class K, int kCount, class ValueOf>
__device__ void storeColumns(const MatmulProblem& problem, const TilePlace& tile, int first, int count,
                             const float (&sums)[K::kRows / 8][4], const ValueOf& valueOf) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4, width = problem.width();
  if (problem.epilogue == Epilogue::logits || width % kOutputsOfUnit != 0) {
    // Eight eights of rows at a time, in a loop: as one long text for all sums this was most of what nvcc
    // had to do, and of the code.
    constexpr int kAtOnce = K::kRows / 8 < 8 ? K::kRows / 8 : 8,
                  kTurns = (K::kRows / 8 + kAtOnce - 1) / kAtOnce;
#pragma unroll 1
    for (int turn = 0; turn < kTurns; ++turn) {
      bool is[kTurns];  // or the compiler would have the sums in memory, to choose among them by address
#pragma unroll
      for (int i = 0; i < kTurns; ++i) is[i] = computedAnew(turn) == i;
#pragma unroll
      for (int at = 0; at < kAtOnce; ++at) {
        float of[4] = {};
#pragma unroll
        for (int j = at; j < K::kRows / 8; j += kAtOnce) {
#pragma unroll
          for (int i = 0; i < 4; ++i) of[i] = is[j / kAtOnce] ? sums[j][i] : of[i];
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          const int column = (first + i) * kOutputsOfUnit + g;
          if (i >= count || column >= width) continue;
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const std::int64_t row = tile.firstRow + computedAnew(8 * at + k) + 8 * kAtOnce * turn + 2 * t;
            if (row < tile.endRow) storeValue(problem, row * width + column, valueOf(i, of, k));
          }
        }
      }
    }
    return;
  }
  // Four blocks of 8 x 8 at a time, of some rows and kCount eights: transposed, and exchanged among four
  // lanes, a lane has 16 bytes of a row.
  constexpr int kRowsOf = 4 / kCount;
  const bool adds = problem.epilogue == Epilogue::add;
#pragma unroll
  for (int begin = 0; begin < K::kRows / 8; begin += kRowsOf) {
    const int ofRow = t / kCount, ofColumn = t % kCount;
    const std::int64_t row = tile.firstRow + computedAnew(8 * begin) + 8 * ofRow + g;
    const bool there = begin + ofRow < K::kRows / 8 && row < tile.endRow && ofColumn < count;
    auto* y = reinterpret_cast<uint4*>(static_cast<bf16*>(problem.y) + row * width +
                                       (first + ofColumn) * kOutputsOfUnit);
    std::uint32_t words[4] = {};
    if (adds) {
      const uint4 before = there ? *y : make_uint4(0, 0, 0, 0);
      words[0] = before.x, words[1] = before.y, words[2] = before.z, words[3] = before.w;
      transposeQuad(words, t);
    }
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      const int j = begin + block / kCount, i = block % kCount;
      if (j >= K::kRows / 8) continue;
      float low = valueOf(i, sums[j], 0), high = valueOf(i, sums[j], 1);
      if (adds) {
        const std::uint32_t before = transposeMatrix(words[block]);
        low += lowFloat(before);
        high += highFloat(before);
      }
      words[block] = transposeMatrix(packBf16(low, high));
    }
    transposeQuad(words, t);
    if (there) *y = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

// With g = lane / 4 and t = lane % 4 a lane holds of eight i of its warp the output g, in the columns 2t
// and the next of each eight rows of x: sums[j][2i] and the next.
template <class K>
__device__ void store(const MatmulProblem& problem, const TilePlace& tile, int warp,
                      const float (&sums)[K::kRows / 8][4]) {
  const int g = static_cast<int>(threadIdx.x) % 32 / 4, first = tile.firstEight + K::kEights * warp;
  const int eights = min(K::kEights, tile.eights - K::kEights * warp), width = problem.width();
  if (eights <= 0) return;
  const auto biasOf = [&](int output) {
    return problem.bias && output < problem.w.outputs ? problem.bias[output] : 0.0f;
  };
  if (problem.epilogue == Epilogue::swiGlu) {
    if constexpr (K::kEights == 2) {
      const int column = first / 2 * kOutputsOfUnit + g;
      const float gate = biasOf(column), up = biasOf(width + column);
      storeColumns<K, 1>(problem, tile, first / 2, 1, sums, [&](int, const float(&of)[4], int k) {
        return silu(of[k] + gate) * (of[2 + k] + up);
      });
    }
    return;
  }
  float bias[K::kEights];
#pragma unroll
  for (int i = 0; i < K::kEights; ++i) bias[i] = biasOf((first + i) * kOutputsOfUnit + g);
  storeColumns<K, K::kEights>(problem, tile, first, eights, sums,
                              [&](int i, const float(&of)[4], int k) { return of[2 * i + k] + bias[i]; });
}

}  // namespace tandem::cuda::wgmma_matmul

#endif
