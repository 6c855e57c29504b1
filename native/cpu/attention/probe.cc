#include "cpu/attention/probe.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "cpu/attention/workspace.h"

namespace tandem::cpu {
namespace {

// A part of one head's attention in whole units. What is not a number counts as nothing.
std::uint32_t unitsOf(float part, int heads) {
  const float units = part * (static_cast<float>(kSaliencyUnits) / static_cast<float>(heads));
  // Rounded: half of a unit more has no error in float64.
  return units > 0 ? static_cast<std::uint32_t>(static_cast<double>(units) + 0.5) : 0;
}

// Adds the block's queries to its entry's sums. maxima and sums [pages of the block, queries]; sums are used
// up. Page by page, as the cells lie in memory: at 32k tokens they are more than a core's caches hold.
void addParts(const AttentionBlock& block, int heads, const float* maxima, float* sums,
              std::span<std::uint32_t> saliency) {
  const int queries = block.queries();
  const auto pages = static_cast<std::size_t>(block.endPage - block.firstPage);
  float highest[kBlockQueries], total[kBlockQueries];
  std::fill_n(highest, queries, kNothingSeen);
  std::fill_n(total, queries, 0.0f);
  for (std::size_t page = 0; page < pages; ++page) {
    const float* ofPage = maxima + page * queries;
    for (int query = 0; query < queries; ++query) highest[query] = std::max(highest[query], ofPage[query]);
  }
  for (std::size_t page = 0; page < pages; ++page) {
    const float* ofPage = maxima + page * queries;
    float* weights = sums + page * queries;
    for (int query = 0; query < queries; ++query) {
      weights[query] *= std::exp2(ofPage[query] - highest[query]);
      total[query] += weights[query];
    }
  }
  for (std::size_t page = 0; page < pages; ++page) {
    const float* weights = sums + page * queries;
    std::uint32_t units = 0;
    for (int query = 0; query < queries; ++query) units += unitsOf(weights[query] / total[query], heads);
    // Blocks of other heads add to the same pages.
    std::atomic_ref(saliency[static_cast<std::size_t>(block.firstPage) + page])
        .fetch_add(units, std::memory_order_relaxed);
  }
}

}  // namespace

void probe(Isa isa, ThreadTeam& team, AttentionWorkspace& workspace, Tensor qkv,
           std::span<const EntryRows> entries, std::span<const KvView> views, const AttentionShape& shape,
           std::span<const std::span<std::uint32_t>> saliency) {
  const Tensor unused{nullptr, qkv.rows, std::int64_t{shape.heads} * shape.headDim};
  const AttentionProblem problem{qkv, entries, views, shape, unused};
  validate(problem);
  check(saliency.size() == entries.size(), "probe: sums for each entry expected");
  for (std::size_t i = 0; i < entries.size(); ++i) {
    check(entries[i].count <= kMostProbes, "probe: an entry has too many rows");
    const std::int64_t tokens = entries[i].position + entries[i].count;
    check(static_cast<std::int64_t>(saliency[i].size()) * kPageTokens >= tokens,
          "probe: an entry's sums are fewer than its pages");
  }
  const AttentionKernels kernels = attentionKernels(isa);
  AttentionWorkspace::Impl& scratch = workspace.impl();
  scratch.prepare(team.size(), problem, false);
  team.forEach(static_cast<std::int64_t>(scratch.blocks.size()), [&](std::int64_t i, int thread) {
    const AttentionBlock& block = scratch.blocks[i];
    const auto cells = static_cast<std::size_t>(block.endPage - block.firstPage) * block.queries();
    AlignedArray<float>& memory = scratch.pageWeights[thread];
    memory.reserve(2 * cells);
    scratch.workers[thread].weighPages(kernels, problem, block, memory.data(), memory.data() + cells);
    addParts(block, shape.heads, memory.data(), memory.data() + cells, saliency[block.entry]);
  });
}

}  // namespace tandem::cpu
