#include "cpu/attention/block.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace tandem::cpu {
void validate(const AttentionProblem& problem) {
  const AttentionShape& shape = problem.shape;
  if (shape.headDim <= 0 || shape.headDim % 16 != 0 || shape.headDim > kMaxHeadDim) {
    throw Error("attention supports head dimensions that are multiples of 16 up to " +
                std::to_string(kMaxHeadDim) + ", not " + std::to_string(shape.headDim));
  }
  check(shape.kvHeads > 0 && shape.heads > 0 && shape.heads % shape.kvHeads == 0,
        "attention: heads must be a multiple of kvHeads");
  check(problem.entries.size() == problem.views.size(), "attention: one KV view per entry expected");
  check(problem.qkv.cols == std::int64_t{shape.heads + 2 * shape.kvHeads} * shape.headDim &&
            problem.out.cols == std::int64_t{shape.heads} * shape.headDim,
        "attention: the columns of qkv or out do not fit the heads");
  for (std::size_t i = 0; i < problem.entries.size(); ++i) {
    const EntryRows& entry = problem.entries[i];
    const KvView& view = problem.views[i];
    check(entry.row >= 0 && entry.count >= 0 && entry.position >= 0 &&
              entry.row + entry.count <= std::min(problem.qkv.rows, problem.out.rows),
          "attention: an entry's rows lie outside the activations");
    check(view.format.kvHeads == shape.kvHeads && view.format.headDim == shape.headDim,
          "attention: the page format does not fit the heads");
    check(static_cast<std::int64_t>(view.pages.size()) * kPageTokens >= entry.position + entry.count,
          "attention: an entry's page table is shorter than its tokens");
    check(view.classes.empty() || view.classes.size() >= view.pages.size(),
          "attention: a page table has pages without a class");
  }
}

void appendBlocks(const AttentionProblem& problem, int entryIndex, bool wholePages,
                  std::vector<AttentionBlock>& blocks) {
  const EntryRows& entry = problem.entries[entryIndex];
  const AttentionShape& shape = problem.shape;
  const int group = shape.heads / shape.kvHeads;
  const int heads = std::min(group, kBlockQueries);
  const std::int64_t rows = std::max(1, kBlockQueries / heads);
  for (std::int64_t row = 0; row < entry.count; row += rows) {
    const std::int64_t end = std::min(entry.count, row + rows);
    const std::int64_t oldest =
        shape.window > 0 ? std::max<std::int64_t>(0, entry.position + row - shape.window + 1) : 0;
    const std::int64_t newest = entry.position + end - 1;
    const int count = static_cast<int>(end - row);
    const int together = wholePages && count * shape.heads <= kBlockQueries ? shape.kvHeads : 1;
    for (int kvHead = 0; kvHead < shape.kvHeads; kvHead += together) {
      for (int first = 0; first < group; first += heads) {
        blocks.push_back({entryIndex, kvHead, together, kvHead * group + first,
                          std::min(heads, group - first), row, count, oldest / kPageTokens,
                          newest / kPageTokens + 1});
      }
    }
  }
}

}  // namespace tandem::cpu
