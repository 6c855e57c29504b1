#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/aligned-array.h"
#include "cpu/attention/attention.h"
#include "cpu/attention/block.h"
#include "cpu/attention/worker.h"

namespace tandem::cpu {

// Where a span of a block is computed when blocks are too few for the team.
struct SpanItem {
  int block;
  std::int64_t span;
  std::size_t state;  // offset of its SoftmaxState
};

struct AttentionWorkspace::Impl {
  std::vector<AttentionWorker> workers;  // by thread
  std::vector<AttentionBlock> blocks;
  std::vector<SpanItem> items;
  AlignedArray<float> states;
  std::vector<AlignedArray<float>> pageWeights;  // of a block, by thread
  PageTurns turns;
  std::vector<float> sinkTurns;  // of each entry [headDim]

  // Workers for a team, and the blocks of a problem.
  void prepare(int threads, const AttentionProblem& problem, bool wholePages) {
    const auto team = static_cast<std::size_t>(threads);
    if (workers.size() < team) workers.resize(team);
    if (pageWeights.size() < team) pageWeights.resize(team);
    for (AttentionWorker& worker : workers) worker.reserve(problem.shape.headDim, problem.stride());
    cutBlocks(problem, wholePages);
  }

  // See appendBlocks.
  void cutBlocks(const AttentionProblem& problem, bool wholePages) {
    blocks.clear();
    for (int i = 0; i < static_cast<int>(problem.entries.size()); ++i) {
      appendBlocks(problem, i, wholePages, blocks);
    }
  }
};

}  // namespace tandem::cpu
