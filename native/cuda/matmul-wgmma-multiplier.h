#pragma once

// The warpgroups that multiply: 64 outputs each, or 32, by all rows of a tile.

#include <cstdint>

#include "cuda/bulk-copies.h"
#include "cuda/matmul-wgmma-block.h"
#include "cuda/matmul-wgmma-store.h"
#include "cuda/weight-codes.h"
#include "cuda/wgmma.h"

#if defined(TANDEM_WGMMA)

namespace tandem::cuda::wgmma_matmul {

// Of one step: what a lane reads of its units, and what it makes of them.
template <class K>
using Codes = UnitCodes<K::kCodes ? K::kClass : WeightClass::int8>[K::kEights];
template <class K>
using Operands = std::uint32_t[K::kProducts][4];

template <class K>
__device__ void expand(Codes<K>& codes, std::uint32_t k128, Operands<K>& operands) {
#pragma unroll
  for (int i = 0; i < K::kEights; ++i) {
    codes[i].prepare();
#pragma unroll
    for (int k16 = 0; k16 < K::kProducts; ++k16) {
      const uint2 pairs = codes[i].operand(k16, k128);
      operands[k16][i] = pairs.x;
      operands[k16][i + 2] = pairs.y;
    }
  }
}

// Warp `warp` of those that multiply: all tiles of the block, one after another.
template <class K>
__device__ void multiplyTiles(const Work& work, const Shared& shared, int warp) {
  const int steps = work.problem.steps(), lane = static_cast<int>(threadIdx.x) % 32;
  const int xBytes = work.plan.boxRows * 128, wBytes = work.plan.tileEights * K::kUnitBytes;
  Barriers& barriers = *computedAnew(shared.barriers);
  const std::uint32_t k128 = twice128();
  RingTurn stage;
  forTiles<K>(work, [&](const TilePlace& tile) {
    float sums[K::kRows / 8][4];
#pragma unroll
    for (int j = 0; j < K::kRows / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[j][i] = 0;
    }
    useOperandRows(8 * tile.eights - warp / 4 * kTileOutputs, work.plan.boxRows);
    int before = 0;
    // Of the stage before, when no more than the group that was just begun is left.
    const auto release = [&] {
      waitForProducts<1>();
      if constexpr (K::kCodes) __syncwarp();  // all lanes have read their codes
      if (lane == 0) arrive(barriers.used[before]);
    };
    const std::byte *x = nullptr, *w = nullptr;
    const auto enter = [&] {
      waitFor(barriers.loaded[stage.place], stage.parity);
      x = shared.stages + stage.place * work.plan.stageBytes;
      w = x + K::kDepth * xBytes;
    };
    const auto leave = [&] {
      before = stage.place;
      stage.advance(work.plan.stages);
    };
    if constexpr (K::kCodes) {
      int units[K::kEights];
#pragma unroll
      for (int i = 0; i < K::kEights; ++i) {
        const int unit = K::kEights * warp + i;
        // A warp without outputs computes those of another.
        units[i] = (unit < tile.eights ? unit : tile.eights - 1) * K::kUnitBytes;
      }
      const auto read = [&](const std::byte* step, Codes<K>& codes) {
#pragma unroll
        for (int i = 0; i < K::kEights; ++i) codes[i].read(step + units[i], lane);
      };
      const auto multiplyStep = [&](const Operands<K>& operands) {
        beginProducts();
#pragma unroll
        for (int k16 = 0; k16 < K::kProducts; ++k16) multiply(sums, operands[k16], operandAt(x, k16));
        endProductGroup();
      };
      // Two steps at a time: codes of one are expanded while the products of the other are computed.
      Operands<K> even = {}, odd = {};
      for (int step = 0; step < steps; step += 2) {
        Codes<K> codes;
        if (step % K::kDepth == 0) enter();
        read(w, codes);
        expand<K>(codes, k128, even);
        if constexpr (K::kDepth > 1) read(w + wBytes, codes);
        multiplyStep(even);
        if (step % K::kDepth == 0 && step > 0) {
          release();
        } else {
          waitForProducts<1>();
        }
        if constexpr (K::kDepth == 1) {
          leave();
          enter();
          read(w, codes);
        } else {
          x += xBytes;
        }
        expand<K>(codes, k128, odd);
        multiplyStep(odd);
        if constexpr (K::kDepth == 1) {
          release();
        } else {
          waitForProducts<1>();
          x += xBytes;
          w += 2 * wBytes;
        }
        if (K::kDepth <= 2 || (step + 2) % K::kDepth == 0 || step + 2 == steps) leave();
      }
    } else {
      for (int step = 0; step < steps; step += K::kDepth) {
        enter();
        w += warp / 4 * (kTileOutputs * kTileInputs * 2);
        // Steps are even, and so is the depth where it is not one.
#pragma unroll
        for (int i = 0; i < K::kDepth; ++i) {
          beginProducts();
#pragma unroll
          for (int k16 = 0; k16 < K::kProducts; ++k16) {
            multiply(sums, operandAt(w + i * wBytes, k16), operandAt(x + i * xBytes, k16));
          }
          endProductGroup();
          if (i > 0)
            waitForProducts<1>();
          else if (step > 0)
            release();
        }
        leave();
      }
    }
    waitForProducts<0>();
    if constexpr (K::kCodes) __syncwarp();
    if (lane == 0) arrive(barriers.used[before]);
    store<K>(work.problem, tile, warp, sums);
  });
}

}  // namespace tandem::cuda::wgmma_matmul

#endif
