// Rows that see a selection of pages: which pages that are, and attention to them.

#include <algorithm>
#include <limits>
#include <numeric>

#include "cpu/attention/worker.h"

namespace tandem::cpu {
namespace {

// What is not a number shall be seen; and it has no place in an order.
float higherOf(float highest, float promise) {
  return promise == promise ? std::max(highest, promise) : std::numeric_limits<float>::infinity();
}

// Pages whose scales are asked for before those of the page at hand are used.
constexpr std::int64_t kBoundsAhead = 4;

// Rows that are bounded together, so that a page's scales are widened once for them: as many as have their
// bounds stay in L2.
int rowsTogether(const PagePartitions& partitions) {
  constexpr std::int64_t kMostBounds = std::int64_t{1} << 17;
  return static_cast<int>(
      std::max<std::int64_t>(1, kMostBounds / std::max<std::int64_t>(1, partitions.midPages())));
}

}  // namespace

void AttentionWorker::attendPartitions(const AttentionKernels& kernels, const AttentionProblem& problem,
                                       const AttentionBlock& block, const PagePartitions& partitions,
                                       const PageTurns& turns, const Turn& sinkTurn) {
  if (partitions.absentPages() == 0) {
    attendBlock(kernels, problem, block);
    return;
  }
  const int headDim = problem.shape.headDim;
  const std::int64_t midEnd = partitions.midEnd;
  const SoftmaxState total = SoftmaxState::in(total_.data(), block.queries(), headDim);
  total.clear(block.queries(), headDim);
  const auto attendAll = [&](std::int64_t first, std::int64_t end) {
    setTiles(problem, block, total);
    for (std::int64_t page = first; page < end; ++page) {
      attendPages(kernels, problem, block, page, 1, page + 1 < end ? page + 1 : -1);
    }
  };
  loadQueries(kernels, problem, block, &sinkTurn);
  attendAll(0, partitions.selection.sinkPages);
  const int together = rowsTogether(partitions);
  for (int row = 0; row < block.rows; row += together) {
    AttentionBlock some = block;
    some.firstRow = block.firstRow + row;
    some.rows = std::min(together, block.rows - row);
    const std::size_t first = static_cast<std::size_t>(row) * block.heads;
    attendSelected(kernels, problem, some, partitions, turns,
                   {total.maximum + first, total.sum + first * kSumLanes, total.out + first * headDim});
  }
  loadQueries(kernels, problem, block);
  attendAll(midEnd, block.endPage);
  writeOut(problem, block, total);
}

void AttentionWorker::attendSelected(const AttentionKernels& kernels, const AttentionProblem& problem,
                                     const AttentionBlock& block, const PagePartitions& partitions,
                                     const PageTurns& turns, const SoftmaxState& states) {
  const auto mid = static_cast<std::size_t>(partitions.midPages());
  boundPages(kernels, problem, block, partitions, turns);
  for (int row = 0; row < block.rows; ++row) {
    AttentionBlock own = block;
    own.firstRow = block.firstRow + row;
    own.rows = 1;
    const std::span<const float> bounds = bounds_;
    selectPages(kernels, problem, own, partitions, turns,
                bounds.empty() ? bounds : bounds.subspan(static_cast<std::size_t>(row) * mid, mid));
    const std::size_t first = static_cast<std::size_t>(row) * block.heads;
    setTiles(
        problem, own,
        {states.maximum + first, states.sum + first * kSumLanes, states.out + first * problem.shape.headDim});
    const auto count = static_cast<std::int64_t>(selected_.size());
    std::int64_t loaded = -1;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t absent = partitions.midEnd - selected_[i] - (count - i);
      if (absent != loaded) {
        const Turn turn = turns.of(absent);
        loadQueries(kernels, problem, own, &turn);
        loaded = absent;
      }
      attendPages(kernels, problem, own, selected_[i], 1, i + 1 < count ? selected_[i + 1] : -1);
    }
  }
}

void AttentionWorker::boundPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                 const AttentionBlock& block, const PagePartitions& partitions,
                                 const PageTurns& turns) {
  bounds_.clear();
  const std::int64_t mid = partitions.midPages();
  if (mid <= partitions.selection.topPages * kShortlistFactor) return;
  bounds_.resize(static_cast<std::size_t>(block.rows * mid));
  const KvView& view = problem.views[block.entry];
  PageBounds page;
  page.headDim = problem.shape.headDim;
  page.queries = problem.qkv.floats() +
                 (problem.entries[block.entry].row + block.firstRow) * problem.qkv.cols +
                 std::int64_t{block.firstHead} * page.headDim;
  page.rowStride = problem.qkv.cols;
  page.rows = block.rows;
  page.heads = block.heads;
  page.boundStride = mid;
  const auto scalesOf = [&](std::int64_t at) {
    return view.pages[at] + view.formatOf(at).keyScales(block.kvHead);
  };
  for (std::int64_t at = partitions.selection.sinkPages; at < partitions.midEnd; ++at) {
    // Scales lie far apart, and one row is done with them before memory has brought the next ones.
    if (at + kBoundsAhead < partitions.midEnd) {
      const std::byte* next = scalesOf(at + kBoundsAhead);
      for (int line = 0; line < 4 * page.headDim; line += 64) __builtin_prefetch(next + line);
    }
    const Turn turn = turns.of(partitions.midEnd - 1 - at);
    page.cosines = turn.cosines.data();
    page.sines = turn.sines.data();
    page.steps = reinterpret_cast<const bf16*>(scalesOf(at));
    page.middles = page.steps + page.headDim;
    const int bits = bitsOf(elementClass(view.formatOf(at).precision));
    page.reach = kReachShare * levelOf(bits, (1 << bits) - 1);
    page.bounds = bounds_.data() + (at - partitions.selection.sinkPages);
    kernels.boundPage(page);
  }
}

void AttentionWorker::selectPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                  const AttentionBlock& block, const PagePartitions& partitions,
                                  const PageTurns& turns, std::span<const float> bounds) {
  const std::int64_t topPages = partitions.selection.topPages;
  selected_.resize(static_cast<std::size_t>(partitions.midPages()));
  std::iota(selected_.begin(), selected_.end(), partitions.selection.sinkPages);
  if (topPages >= partitions.midPages()) return;
  if (!bounds.empty()) best_.keep(bounds, static_cast<std::size_t>(topPages * kShortlistFactor), selected_);
  scores_.clear();
  for (const std::int64_t page : selected_) {
    const Turn turn = turns.of(partitions.midEnd - 1 - page);
    scores_.push_back(highestScore(kernels, problem, block, page, turn));
  }
  best_.keep(scores_, static_cast<std::size_t>(topPages), selected_);
}

float AttentionWorker::highestScore(const AttentionKernels& kernels, const AttentionProblem& problem,
                                    const AttentionBlock& block, std::int64_t page, const Turn& turn) {
  float maxima[kBlockQueries];
  alignas(64) float sums[kBlockQueries * kSumLanes];
  std::fill_n(maxima, block.queries(), kNothingSeen);
  std::fill_n(sums, block.queries() * kSumLanes, 0.0f);
  loadQueries(kernels, problem, block, &turn);
  setTiles(problem, block, {maxima, sums, nullptr});
  attendPages(kernels, problem, block, page, 1, -1);
  float highest = -std::numeric_limits<float>::infinity();
  for (int query = 0; query < block.queries(); ++query) highest = higherOf(highest, maxima[query]);
  return highest;
}

}  // namespace tandem::cpu
