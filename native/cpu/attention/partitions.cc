#include "cpu/attention/partitions.h"

#include <algorithm>

#include "core/error.h"
#include "cpu/attention/workspace.h"

namespace tandem::cpu {
namespace {

void validatePartitions(const AttentionProblem& problem, std::span<const PagePartitions> partitions,
                        const RopeTable& rope) {
  check(problem.shape.window == 0, "attendPartitions: a layer with a window has no partitions");
  check(problem.shape.heads / problem.shape.kvHeads <= kBlockQueries,
        "attendPartitions: too many heads share a KV head");
  check(rope.inverseFrequencies.size() == static_cast<std::size_t>(problem.shape.headDim / 2),
        "attendPartitions: the RoPE table needs headDim / 2 frequencies");
  check(partitions.size() == problem.entries.size(), "attendPartitions: partitions for each entry expected");
  for (std::size_t i = 0; i < partitions.size(); ++i) {
    const auto& [selection, dropped, midEnd] = partitions[i];
    check(selection.sinkPages >= 0 && selection.topPages > 0 && dropped >= 0 &&
              selection.sinkPages <= midEnd && midEnd * kPageTokens <= problem.entries[i].position,
          "attendPartitions: an entry's partitions do not fit its page table");
    for (std::int64_t page = selection.sinkPages; page < midEnd; ++page) {
      check(isPacked(problem.views[i].formatOf(page).precision) && problem.views[i].pages[page] != nullptr,
            "attendPartitions: the mid pages must be packed");
    }
  }
}

}  // namespace

void attendPartitions(Isa isa, ThreadTeam& team, AttentionWorkspace& workspace, Tensor qkv,
                      std::span<const EntryRows> entries, std::span<const KvView> views,
                      std::span<const PagePartitions> partitions, const AttentionShape& shape,
                      const RopeTable& rope, Tensor out) {
  const AttentionProblem problem{qkv, entries, views, shape, out};
  validate(problem);
  validatePartitions(problem, partitions, rope);
  const AttentionKernels kernels = attentionKernels(isa);
  AttentionWorkspace::Impl& scratch = workspace.impl();
  scratch.prepare(team.size(), problem, false);
  std::int64_t longest = 0;
  for (const PagePartitions& one : partitions) longest = std::max(longest, one.midPages());
  scratch.turns.prepare(rope, longest + 1);
  scratch.sinkTurns.resize(partitions.size() * static_cast<std::size_t>(shape.headDim));
  const auto sinkTurn = [&](std::size_t entry) {
    return scratch.sinkTurns.data() + entry * static_cast<std::size_t>(shape.headDim);
  };
  std::vector<Turn> sinks;
  for (std::size_t i = 0; i < partitions.size(); ++i) {
    sinks.push_back(scratch.turns.of(partitions[i].absentPages(), sinkTurn(i)));
  }
  team.forEach(static_cast<std::int64_t>(scratch.blocks.size()), [&](std::int64_t i, int thread) {
    const AttentionBlock& block = scratch.blocks[i];
    scratch.workers[thread].attendPartitions(kernels, problem, block, partitions[block.entry], scratch.turns,
                                             sinks[block.entry]);
  });
}

}  // namespace tandem::cpu
