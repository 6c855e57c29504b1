#pragma once

// The warps that load. One begins the copies of x, the others take turns with those of W, stage by stage, as
// soon as a stage's place is free.

#include "cuda/bulk-copies.h"
#include "cuda/matmul-wgmma-block.h"
#include "cuda/rows-map.h"
#include "cuda/wgmma.h"

#if defined(TANDEM_WGMMA)

namespace tandem::cuda::wgmma_matmul {

// Lane i loads step i of the stage.
template <class K>
__device__ void loadX(const Work& work, const RowsMap& x, const Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32, xBytes = work.plan.boxRows * 128;
  RingTurn stage;
  forStages<K>(work, [&](const TilePlace& tile, int step, int count) {
    waitFor(shared.barriers->used[stage.place], stage.parity ^ 1);
    Barrier& loaded = shared.barriers->loaded[stage.place];
    if (lane == 0) arriveExpecting(loaded, count * xBytes);
    __syncwarp();
    if (lane < count) {
      copyBox(shared.stages + stage.place * work.plan.stageBytes + lane * xBytes, x, tile.firstRow,
              (step + lane) * kTileInputs, loaded);
    }
    stage.advance(work.plan.stages);
  });
}

// A lane loads, of one step, what lies in one of the tiles that W is packed in.
template <class K>
__device__ void loadW(const Work& work, const Shared& shared, int warp) {
  constexpr int kPacked = kTileOutputs / kOutputsOfUnit;
  constexpr int kPieces = 32 / kMostDepth;
  static_assert(kPieces > K::kTile.mostEights() / kPacked + 1);
  const int lane = static_cast<int>(threadIdx.x) % 32, inStage = lane / kPieces;
  const WeightTiles& w = work.problem.w;
  const int wBegin = K::kDepth * work.plan.boxRows * 128;
  RingTurn stage, turn;
  forStages<K>(work, [&](const TilePlace& tile, int step, int count) {
    if (turn.place == warp) {
      const int begin = tile.firstEight, end = begin + tile.eights;
      const int packed = (begin / kPacked + lane % kPieces) * kPacked;
      const int first = packed < begin ? begin : packed;
      const int last = packed + kPacked < end ? packed + kPacked : end;
      const std::byte* source = w.data + w.unitOffset(first, step + inStage);
      std::byte* to = shared.stages + stage.place * work.plan.stageBytes + wBegin +
                      (inStage * work.plan.tileEights + first - begin) * K::kUnitBytes;
      waitFor(shared.barriers->used[stage.place], stage.parity ^ 1);
      Barrier& loaded = shared.barriers->loaded[stage.place];
      if (lane == 0) arriveExpecting(loaded, count * tile.eights * K::kUnitBytes);
      __syncwarp();
      if (inStage < count && first < last) copyBulk(to, source, (last - first) * K::kUnitBytes, loaded);
    }
    stage.advance(work.plan.stages);
    turn.advance(K::kLoadingWarps);
  });
}

}  // namespace tandem::cuda::wgmma_matmul

#endif
