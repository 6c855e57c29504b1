#pragma once

// How the tiles of a matmul by mma.sync lie in shared memory, and what happens to its finished sums; some of
// it serves the kernel by wgmma too.

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/matmul-problem.h"

namespace tandem::cuda {

// Element of a tile of rows of 64 bf16 in shared memory: 16-byte chunks trade places by the row's number, so
// that the same chunk of eight rows lies in different banks. Tensor-core operands know it as the 128-byte
// swizzle.
__device__ inline int swizzled(int row, int chunk) { return row * kTileInputs + (chunk ^ row % 8) * 8; }

constexpr float kLog2E = 1.4426950408889634f;
__device__ inline float silu(float x) { return x / (1 + exp2Fast(-x * kLog2E)); }

// Exchanges words among four lanes: word i of lane t becomes word t of lane i.
__device__ inline void transposeQuad(std::uint32_t (&words)[4], int t) {
#pragma unroll
  for (int mask = 1; mask < 4; mask *= 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & mask) continue;
      const bool upper = t & mask;
      const std::uint32_t received = __shfl_xor_sync(kWholeWarp, upper ? words[i] : words[i | mask], mask);
      words[i] = upper ? received : words[i];
      words[i | mask] = upper ? words[i | mask] : received;
    }
  }
}

// As storeEights, one value after the other: float32, and rows that are not aligned.
__device__ inline void storePieces(const MatmulProblem& problem, std::int64_t row, int first, int count,
                                   const float (&values)[4][2]) {
  const int t = static_cast<int>(threadIdx.x) % 4, width = problem.width();
#pragma unroll
  for (int group = 0; group < 4; ++group) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = (first + group) * kOutputsOfUnit + 2 * t + i;
      if (row >= problem.rows || group >= count || column >= width) continue;
      const std::int64_t at = row * width + column;
      if (problem.epilogue == Epilogue::logits) {
        static_cast<float*>(problem.y)[at] = values[group][i];
        continue;
      }
      bf16& y = static_cast<bf16*>(problem.y)[at];
      y = roundToBf16(problem.epilogue == Epilogue::add ? values[group][i] + lowFloat(y) : values[group][i]);
    }
  }
}

// Four eights of y's row from `first` on, as many as there are: values[i] are columns 2t and 2t + 1 of eight
// i. All lanes of a warp call it; a lane writes the 16 bytes of one eight.
__device__ inline void storeEights(const MatmulProblem& problem, std::int64_t row, int first, int count,
                                   float (&values)[4][2]) {
  const int t = static_cast<int>(threadIdx.x) % 4, width = problem.width();
  if (problem.epilogue == Epilogue::logits || width % kOutputsOfUnit != 0) {
    return storePieces(problem, row, first, count, values);
  }
  const bool there = row < problem.rows && t < count;
  auto* y =
      reinterpret_cast<uint4*>(static_cast<bf16*>(problem.y) + row * width + (first + t) * kOutputsOfUnit);
  std::uint32_t words[4];
  if (problem.epilogue == Epilogue::add) {
    const uint4 before = there ? *y : make_uint4(0, 0, 0, 0);
    words[0] = before.x;
    words[1] = before.y;
    words[2] = before.z;
    words[3] = before.w;
    transposeQuad(words, t);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[i][0] += lowFloat(words[i]);
      values[i][1] += highFloat(words[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = packBf16(values[i][0], values[i][1]);
  transposeQuad(words, t);
  if (there) *y = make_uint4(words[0], words[1], words[2], words[3]);
}

// Writes what the eights [first, first + count) of outputs lead to, of a row (half 0) and the eighth one
// below it (1). Lane t of four holds columns 2t and 2t + 1 of each eight, sums[eight - first][2 half] and the
// next. All lanes of a warp call it. The sums are lost.
template <int kGroups>
__device__ void storeRows(const MatmulProblem& problem, std::int64_t row, int first, int count,
                          float (&sums)[kGroups][4]) {
  constexpr int kAtOnce = kGroups < 8 ? kGroups : 8;
  const int t = static_cast<int>(threadIdx.x) % 4, width = problem.width();
  const bool gated = problem.epilogue == Epilogue::swiGlu;
  const auto biasOf = [&](int column) {
    return problem.bias && column < problem.w.outputs ? problem.bias[column] : 0.0f;
  };
  // A loop, not one long text for all sums: what a tile ends with must not exceed the instruction cache. The
  // next sums move to where the last ones were.
#pragma unroll 1
  while (count > 0) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float values[4][2] = {};
      if (gated) {
#pragma unroll
        for (int i = 0; i < kAtOnce / 2; ++i) {
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const int column = (first / 2 + i) * kOutputsOfUnit + 2 * t + k;
            const float gate = sums[2 * i][2 * half + k] + biasOf(column);
            const float up = sums[2 * i + 1][2 * half + k] + biasOf(width + column);
            values[i][k] = silu(gate) * up;
          }
        }
        storeEights(problem, row + 8 * half, first / 2, count / 2, values);
        continue;
      }
#pragma unroll
      for (int begin = 0; begin < kAtOnce; begin += 4) {
#pragma unroll
        for (int i = 0; i < 4 && begin + i < kAtOnce; ++i) {
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            values[i][k] =
                sums[begin + i][2 * half + k] + biasOf((first + begin + i) * kOutputsOfUnit + 2 * t + k);
          }
        }
        storeEights(problem, row + 8 * half, first + begin, count - begin, values);
      }
    }
#pragma unroll
    for (int group = 0; group + kAtOnce < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[group][i] = sums[group + kAtOnce][i];
    }
    first += kAtOnce;
    count -= kAtOnce;
  }
}

}  // namespace tandem::cuda
