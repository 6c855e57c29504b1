// Rows that see a selection of pages: which pages that are, and attention to them.

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "cpu/attention/worker.h"
#include "kv/page-content.h"

namespace tandem::cpu {
namespace {

// What is not a number shall be seen; and it has no place in an order.
float higherOf(float highest, float promise) {
  return promise == promise ? std::max(highest, promise) : std::numeric_limits<float>::infinity();
}

// Of each row of the block the highest of its heads. promises [rows, heads]; rowPromises [rows], stride apart
void highestOfHeads(const AttentionBlock& block, const float* promises, float* rowPromises,
                    std::int64_t stride) {
  for (int row = 0; row < block.rows; ++row) {
    float highest = -std::numeric_limits<float>::infinity();
    for (int head = 0; head < block.heads; ++head, ++promises) highest = higherOf(highest, *promises);
    rowPromises[row * stride] = highest;
  }
}

// Pages that are asked for before the one at hand is done with: of their scales alone, and of their keys.
constexpr std::int64_t kBoundsAhead = 4, kScoresAhead = 2;

void prefetchLines(const std::byte* begin, std::size_t bytes) {
  for (std::size_t line = 0; line < bytes; line += 64) __builtin_prefetch(begin + line);
}

// Rows that meet mid pages together, so that what a page has is read once for them: as many as have their
// promises stay in L2.
int rowsTogether(const PagePartitions& partitions) {
  constexpr std::int64_t kMostPromises = std::int64_t{1} << 17;
  return static_cast<int>(
      std::max<std::int64_t>(1, kMostPromises / std::max<std::int64_t>(1, partitions.midPages())));
}

PageContent contentAt(const AttentionProblem& problem, const AttentionBlock& block, std::int64_t page) {
  const KvView& view = problem.views[block.entry];
  return contentOf(view.pages[page], view.formatOf(page));
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
    const AttentionBlock some = block.onlyRows(row, std::min(together, block.rows - row));
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
  if (partitions.selection.topPages < partitions.midPages()) {
    quantizeUnturned(kernels, problem, block);
    boundPages(kernels, problem, block, partitions, turns);
    scorePages(kernels, problem, block, partitions, turns);
  }
  for (int row = 0; row < block.rows; ++row) {
    selectPages(kernels, problem, block, row, partitions, turns);
    const AttentionBlock own = block.onlyRows(row, 1);
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

void AttentionWorker::quantizeUnturned(const AttentionKernels& kernels, const AttentionProblem& problem,
                                       const AttentionBlock& block) {
  unturnedRow_ = block.firstRow;
  if (!kernels.quantizeQueries) return;
  loadQueries(kernels, problem, block);
  std::swap(numbers_, unturned_);
  std::copy_n(units_, block.queries(), unturnedUnits_);
}

TurnedQueries AttentionWorker::turnedQueries(const AttentionProblem& problem, const AttentionBlock& block,
                                             const Turn& turn) const {
  TurnedQueries of;
  of.headDim = problem.shape.headDim;
  of.queries = problem.qkv.floats() + (problem.entries[block.entry].row + block.firstRow) * problem.qkv.cols +
               std::int64_t{block.firstHead} * of.headDim;
  of.rowStride = problem.qkv.cols;
  of.rows = block.rows;
  of.heads = block.heads;
  of.cosines = turn.cosines.data();
  of.sines = turn.sines.data();
  const std::int64_t first = (block.firstRow - unturnedRow_) * block.heads;
  of.numbers = unturned_.data() + first * kNumbersStride;
  of.units = unturnedUnits_ + first;
  of.cosineNumbers = turn.cosineNumbers;
  of.sineNumbers = turn.sineNumbers;
  return of;
}

void AttentionWorker::boundPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                 const AttentionBlock& block, const PagePartitions& partitions,
                                 const PageTurns& turns) {
  bounds_.clear();
  const std::int64_t begin = partitions.selection.sinkPages, end = partitions.scoredBegin();
  if (end - begin <= partitions.selection.topPages * kShortlistFactor) return;
  bounds_.resize(static_cast<std::size_t>(block.rows * (end - begin)));
  const KvView& view = problem.views[block.entry];
  for (std::int64_t at = begin; at < end; ++at) {
    // Scales lie far apart, and one row is done with them before memory has brought the next ones.
    if (at + kBoundsAhead < end) {
      const PageFormat& format = view.formatOf(at + kBoundsAhead);
      prefetchLines(view.pages[at + kBoundsAhead] + format.keyScales(block.kvHead), format.keyScaleBytes());
    }
    const PageFormat& format = view.formatOf(at);
    PageBounds page;
    page.of = turnedQueries(problem, block, turns.of(partitions.midEnd - 1 - at));
    page.steps = reinterpret_cast<const bf16*>(view.pages[at] + format.keyScales(block.kvHead));
    page.middles = page.steps + format.headDim;
    const int bits = bitsOf(elementClass(format.precision));
    page.reach = kReachShare * levelOf(bits, (1 << bits) - 1);
    float boundsOf[kBlockQueries];
    page.bounds = boundsOf;
    kernels.boundPage(page);
    highestOfHeads(block, boundsOf, bounds_.data() + (at - begin), end - begin);
  }
}

void AttentionWorker::scorePages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                 const AttentionBlock& block, const PagePartitions& partitions,
                                 const PageTurns& turns) {
  const std::int64_t begin = partitions.scoredBegin(), end = partitions.midEnd;
  scores_.resize(static_cast<std::size_t>(block.rows * (end - begin)));
  for (std::int64_t at = begin; at < end; ++at) {
    if (at + kScoresAhead < end) {
      const auto [bytes, format] = contentAt(problem, block, at + kScoresAhead);
      prefetchLines(bytes + format.keys(block.kvHead), format.tileBytes());
      prefetchLines(bytes + format.keyScales(block.kvHead), format.keyScaleBytes());
    }
    scorePage(kernels, problem, block, at, turns.of(partitions.midEnd - 1 - at),
              scores_.data() + (at - begin), end - begin);
  }
}

void AttentionWorker::selectPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                  const AttentionBlock& block, int row, const PagePartitions& partitions,
                                  const PageTurns& turns) {
  const std::int64_t sink = partitions.selection.sinkPages, scored = partitions.scoredBegin();
  selected_.resize(static_cast<std::size_t>(partitions.midPages()));
  std::iota(selected_.begin(), selected_.end(), sink);
  const std::int64_t topPages = partitions.selection.topPages;
  if (topPages >= partitions.midPages()) return;
  const auto older = static_cast<std::size_t>(scored - sink),
             newer = static_cast<std::size_t>(partitions.midEnd - scored);
  selected_.resize(older);
  if (!bounds_.empty()) {
    const std::span<const float> bounds(bounds_.data() + static_cast<std::size_t>(row) * older, older);
    best_.keep(bounds, static_cast<std::size_t>(topPages * kShortlistFactor), selected_);
  }
  promises_.resize(selected_.size());
  for (std::size_t i = 0; i < selected_.size(); ++i) {
    scorePage(kernels, problem, block.onlyRows(row, 1), selected_[i],
              turns.of(partitions.midEnd - 1 - selected_[i]), &promises_[i], 1);
  }
  const auto scores = scores_.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * newer);
  promises_.insert(promises_.end(), scores, scores + static_cast<std::ptrdiff_t>(newer));
  for (std::int64_t page = scored; page < partitions.midEnd; ++page) selected_.push_back(page);
  best_.keep(promises_, static_cast<std::size_t>(topPages), selected_);
}

void AttentionWorker::scorePage(const AttentionKernels& kernels, const AttentionProblem& problem,
                                const AttentionBlock& block, std::int64_t page, const Turn& turn,
                                float* scores, std::int64_t scoreStride) {
  float scoresOf[kBlockQueries + 3];
  if (kernels.scorePage) {
    const auto [bytes, format] = contentAt(problem, block, page);
    const auto* steps = reinterpret_cast<const bf16*>(bytes + format.keyScales(block.kvHead));
    kernels.scorePage({turnedQueries(problem, block, turn), bitsOf(format.precision),
                       bytes + format.keys(block.kvHead), steps, steps + format.headDim, scoresOf});
  } else {
    alignas(64) float sums[kBlockQueries * kSumLanes];
    std::fill_n(scoresOf, block.queries(), kNothingSeen);
    std::fill_n(sums, block.queries() * kSumLanes, 0.0f);
    loadQueries(kernels, problem, block, &turn);
    setTiles(problem, block, {scoresOf, sums, nullptr});
    attendPages(kernels, problem, block, page, 1, -1);
  }
  highestOfHeads(block, scoresOf, scores, scoreStride);
}

}  // namespace tandem::cpu
