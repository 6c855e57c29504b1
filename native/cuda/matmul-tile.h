#pragma once

// What the matmul kernels of all architectures share: how tiles lie in shared memory, and what happens to a
// finished sum.

#include <cstdint>

#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/matmul-problem.h"

namespace tandem::cuda {

// Element of a tile of rows of 64 bf16 in shared memory: 16-byte chunks trade places by the row's number, so
// that the same chunk of eight rows lies in different banks. Tensor-core operands know it as the 128-byte
// swizzle.
__device__ inline int swizzled(int row, int chunk) { return row * kTileInputs + (chunk ^ row % 8) * 8; }

// Four int8 codes times their scale, rounded once: two pairs of bf16.
__device__ inline uint2 expandWord(std::uint32_t codes, std::uint32_t scales) {
  constexpr std::uint32_t kMinusZero = 0x80008000u;
  return {fmaBf16(expandCodes<0>(codes), scales, kMinusZero),
          fmaBf16(expandCodes<1>(codes), scales, kMinusZero)};
}

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

// Writes a row's part of y: what the eights [first, first + count) of outputs lead to. Lane t of four holds
// columns 2t and 2t + 1 of each eight, sums[eight - first][2 kHalf] and the next. All lanes of a warp call
// it.
template <int kHalf, int kGroups>
__device__ void storeRow(const MatmulProblem& problem, std::int64_t row, int first, int count,
                         const float (&sums)[kGroups][4]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  const bool gated = problem.epilogue == Epilogue::swiGlu;
  const int width = problem.width();
  const auto biasOf = [&](int column) {
    return problem.bias && column < problem.w.outputs ? problem.bias[column] : 0.0f;
  };
  const auto plain = [&](int group, int i) {
    return sums[group][2 * kHalf + i] + biasOf((first + group) * kOutputsOfUnit + 2 * t + i);
  };
  const auto swiGlu = [&](int group, int i) {
    const int column = (first / 2 + group) * kOutputsOfUnit + 2 * t + i;
    const float gate = sums[2 * group][2 * kHalf + i] + biasOf(column);
    const float up = sums[2 * group + 1][2 * kHalf + i] + biasOf(width + column);
    return silu(gate) * up;
  };
  const auto value = [&](int group, int i) {
    if (!gated) return plain(group, i);
    if constexpr (kGroups >= 2) {
      if (group < kGroups / 2) return swiGlu(group, i);
    }
    return 0.0f;
  };
  const int firstOfY = gated ? first / 2 : first, countOfY = gated ? count / 2 : count;
  const std::int64_t rowBegin = row * width;

  if (problem.epilogue == Epilogue::logits || width % kOutputsOfUnit != 0) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = (firstOfY + group) * kOutputsOfUnit + 2 * t + i;
        if (row >= problem.rows || group >= countOfY || column >= width) continue;
        float sum = value(group, i);
        if (problem.epilogue == Epilogue::logits) {
          static_cast<float*>(problem.y)[rowBegin + column] = sum;
          continue;
        }
        bf16& y = static_cast<bf16*>(problem.y)[rowBegin + column];
        if (problem.epilogue == Epilogue::add) sum += lowFloat(y);
        y = roundToBf16(sum);
      }
    }
    return;
  }
  // Four eights at a time: a lane writes the 16 bytes of one of them.
#pragma unroll
  for (int group = 0; group < kGroups; group += 4) {
    if (group >= countOfY) break;
    const bool there = row < problem.rows && group + t < countOfY;
    auto* y = reinterpret_cast<uint4*>(static_cast<bf16*>(problem.y) + rowBegin +
                                       (firstOfY + group + t) * kOutputsOfUnit);
    std::uint32_t words[4] = {};
    if (problem.epilogue == Epilogue::add) {
      if (there) {
        const uint4 before = *y;
        words[0] = before.x;
        words[1] = before.y;
        words[2] = before.z;
        words[3] = before.w;
      }
      transposeQuad(words, t);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (group + i >= kGroups) continue;
      float low = value(group + i, 0), high = value(group + i, 1);
      if (problem.epilogue == Epilogue::add) {
        low += lowFloat(words[i]);
        high += highFloat(words[i]);
      }
      words[i] = packBf16(low, high);
    }
    transposeQuad(words, t);
    if (there) *y = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace tandem::cuda
