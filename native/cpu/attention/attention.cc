#include "cpu/attention/attention.h"

#include <algorithm>

#include "cpu/attention/workspace.h"

namespace tandem::cpu {
AttentionWorkspace::AttentionWorkspace() : impl_(std::make_unique<Impl>()) {}
AttentionWorkspace::~AttentionWorkspace() = default;

namespace {

void attendSpans(const AttentionKernels& kernels, ThreadTeam& team, AttentionWorkspace::Impl& scratch,
                 const AttentionProblem& problem) {
  const int headDim = problem.shape.headDim;
  scratch.items.clear();
  std::size_t elements = 0;
  for (int i = 0; i < static_cast<int>(scratch.blocks.size()); ++i) {
    const AttentionBlock& block = scratch.blocks[i];
    for (std::int64_t span = 0; span < block.spans(); ++span) {
      scratch.items.push_back({i, block.firstSpan() + span, elements});
      elements += SoftmaxState::elements(block.queries(), headDim);
    }
  }
  scratch.states.reserve(elements);
  const auto stateOf = [&](const SpanItem& item) {
    return SoftmaxState::in(scratch.states.data() + item.state, scratch.blocks[item.block].queries(),
                            headDim);
  };
  team.forEach(static_cast<std::int64_t>(scratch.items.size()), [&](std::int64_t i, int thread) {
    const SpanItem& item = scratch.items[i];
    scratch.workers[thread].attendSpan(kernels, problem, scratch.blocks[item.block], item.span,
                                       stateOf(item));
  });
  for (std::size_t i = 0; i < scratch.items.size();) {
    const AttentionBlock& block = scratch.blocks[scratch.items[i].block];
    const SoftmaxState total = stateOf(scratch.items[i]);
    const std::size_t end = i + static_cast<std::size_t>(block.spans());
    for (++i; i < end; ++i) total.merge(stateOf(scratch.items[i]), block.queries(), headDim);
    AttentionWorker::writeOut(problem, block, total);
  }
}

std::int64_t spansOf(const std::vector<AttentionBlock>& blocks) {
  std::int64_t spans = 0;
  for (const AttentionBlock& block : blocks) spans += block.spans();
  return spans;
}

}  // namespace

void attention(Isa isa, ThreadTeam& team, AttentionWorkspace& workspace, Tensor qkv,
               std::span<const EntryRows> entries, std::span<const KvView> views, const AttentionShape& shape,
               Tensor out) {
  const AttentionProblem problem{qkv, entries, views, shape, out};
  validate(problem);
  const AttentionKernels kernels = attentionKernels(isa);
  AttentionWorkspace::Impl& scratch = workspace.impl();
  // How heads are cut into blocks, and blocks into spans, changes no bit, so it may depend on the team. Below
  // four pieces of work a thread, the last ones to finish would leave too much of the team idle.
  const std::int64_t enough = team.size() > 1 ? 4 * team.size() : 1;
  scratch.prepare(team.size(), problem, true);
  if (spansOf(scratch.blocks) < enough) scratch.cutBlocks(problem, false);
  const auto blocks = static_cast<std::int64_t>(scratch.blocks.size());
  if (blocks < enough && spansOf(scratch.blocks) > blocks) {
    attendSpans(kernels, team, scratch, problem);
    return;
  }
  // The costly ones first, so that the threads end together.
  std::stable_sort(scratch.blocks.begin(), scratch.blocks.end(),
                   [](const AttentionBlock& a, const AttentionBlock& b) { return a.cost() > b.cost(); });
  team.forEach(blocks, [&](std::int64_t i, int thread) {
    scratch.workers[thread].attendBlock(kernels, problem, scratch.blocks[i]);
  });
}

}  // namespace tandem::cpu
