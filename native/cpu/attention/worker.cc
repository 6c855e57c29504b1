#include "cpu/attention/worker.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "cpu/rope.h"

namespace tandem::cpu {
namespace {

// Bits of the tokens of page `page` that the token at `position` sees.
std::uint32_t visibleTokens(std::int64_t page, std::int64_t position, int window) {
  const std::int64_t base = page * kPageTokens;
  const std::int64_t end = std::clamp<std::int64_t>(position + 1 - base, 0, kPageTokens);
  const std::int64_t begin =
      window > 0 ? std::clamp<std::int64_t>(position - window + 1 - base, 0, kPageTokens) : 0;
  if (begin >= end) return 0;
  return static_cast<std::uint32_t>(((std::uint64_t{1} << end) - 1) & ~((std::uint64_t{1} << begin) - 1));
}

// What is not a number shall be seen; and it has no place in an order.
float higherOf(float highest, float promise) {
  return promise == promise ? std::max(highest, promise) : std::numeric_limits<float>::infinity();
}

}  // namespace

void AttentionWorker::reserve(int headDim, int stride) {
  q_.reserve(static_cast<std::size_t>(kBlockQueries) * stride);
  numbers_.reserve(static_cast<std::size_t>(kBlockQueries) * kNumbersStride);
  unpacked_.reserve(static_cast<std::size_t>(2 * kPageTokens) * headDim);
  folded_.reserve(static_cast<std::size_t>(kBlockQueries) * stride);
  keys_.reserve(static_cast<std::size_t>(kPageTokens) * stride);
  values_.reserve(static_cast<std::size_t>(kPageTokens) * headDim);
  total_.reserve(SoftmaxState::elements(kBlockQueries, headDim));
  part_.reserve(SoftmaxState::elements(kBlockQueries, headDim));
}

void AttentionWorker::attendBlock(const AttentionKernels& kernels, const AttentionProblem& problem,
                                  const AttentionBlock& block) {
  const int headDim = problem.shape.headDim;
  loadQueries(kernels, problem, block);
  const SoftmaxState total = SoftmaxState::in(total_.data(), block.queries(), headDim);
  const SoftmaxState part = SoftmaxState::in(part_.data(), block.queries(), headDim);
  for (std::int64_t i = 0; i < block.spans(); ++i) {
    attendLoaded(kernels, problem, block, block.firstSpan() + i, i == 0 ? total : part);
    if (i > 0) total.merge(part, block.queries(), headDim);
  }
  writeOut(problem, block, total);
}

void AttentionWorker::attendSpan(const AttentionKernels& kernels, const AttentionProblem& problem,
                                 const AttentionBlock& block, std::int64_t span, const SoftmaxState& state) {
  loadQueries(kernels, problem, block);
  attendLoaded(kernels, problem, block, span, state);
}

void AttentionWorker::weighPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                 const AttentionBlock& block, float* maxima, float* sums) {
  loadQueries(kernels, problem, block);
  const int queries = block.queries();
  alignas(64) float lanes[kBlockQueries * kSumLanes];
  for (std::int64_t page = block.firstPage; page < block.endPage;
       ++page, maxima += queries, sums += queries) {
    std::fill_n(maxima, queries, kNothingSeen);
    std::fill_n(lanes, queries * kSumLanes, 0.0f);
    if (problem.views[block.entry].pages[page] != nullptr) {
      attendPages(kernels, problem, block, page, 1, page + 1 < block.endPage ? page + 1 : -1,
                  {maxima, lanes, nullptr});
    }
    for (int query = 0; query < queries; ++query) {
      sums[query] = std::accumulate(lanes + query * kSumLanes, lanes + (query + 1) * kSumLanes, 0.0f);
    }
  }
}

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
    for (std::int64_t page = first; page < end; ++page) {
      attendPages(kernels, problem, block, page, 1, page + 1 < end ? page + 1 : -1, total);
    }
  };
  loadQueries(kernels, problem, block, &sinkTurn);
  attendAll(0, partitions.selection.sinkPages);
  for (int row = 0; row < block.rows; ++row) {
    AttentionBlock own = block;
    own.firstRow = block.firstRow + row;
    own.rows = 1;
    selectPages(kernels, problem, own, partitions, turns);
    const std::size_t first = static_cast<std::size_t>(row) * block.heads;
    const SoftmaxState state{total.maximum + first, total.sum + first * kSumLanes,
                             total.out + first * headDim};
    const auto count = static_cast<std::int64_t>(selected_.size());
    std::int64_t loaded = -1;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t absent = midEnd - selected_[i] - (count - i);
      if (absent != loaded) {
        const Turn turn = turns.of(absent);
        loadQueries(kernels, problem, own, &turn);
        loaded = absent;
      }
      attendPages(kernels, problem, own, selected_[i], 1, i + 1 < count ? selected_[i + 1] : -1, state);
    }
  }
  loadQueries(kernels, problem, block);
  attendAll(midEnd, block.endPage);
  writeOut(problem, block, total);
}

void AttentionWorker::selectPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                  const AttentionBlock& block, const PagePartitions& partitions,
                                  const PageTurns& turns) {
  const std::int64_t begin = partitions.selection.sinkPages, end = partitions.midEnd;
  const std::int64_t topPages = partitions.selection.topPages;
  selected_.resize(static_cast<std::size_t>(end - begin));
  std::iota(selected_.begin(), selected_.end(), begin);
  if (topPages >= end - begin) return;
  promises_.resize(selected_.size());
  const std::int64_t shortlist = topPages * kShortlistFactor;
  if (shortlist < end - begin) {
    for (const std::int64_t page : selected_) {
      promises_[page - begin] = boundOf(kernels, problem, block, page, turns.of(end - 1 - page));
    }
    keepBest(shortlist, begin);
  }
  for (const std::int64_t page : selected_) {
    const Turn turn = turns.of(end - 1 - page);
    promises_[page - begin] = highestScore(kernels, problem, block, page, turn);
  }
  keepBest(topPages, begin);
  std::sort(selected_.begin(), selected_.end());
}

void AttentionWorker::keepBest(std::int64_t count, std::int64_t firstPage) {
  const auto last = selected_.begin() + count;
  std::nth_element(selected_.begin(), last, selected_.end(), [&](std::int64_t a, std::int64_t b) {
    const float mine = promises_[a - firstPage], theirs = promises_[b - firstPage];
    return mine != theirs ? mine > theirs : a < b;
  });
  selected_.erase(last, selected_.end());
}

float AttentionWorker::boundOf(const AttentionKernels& kernels, const AttentionProblem& problem,
                               const AttentionBlock& block, std::int64_t page, const Turn& turn) {
  const KvView& view = problem.views[block.entry];
  const int headDim = problem.shape.headDim;
  const float* row =
      problem.qkv.floats() + (problem.entries[block.entry].row + block.firstRow) * problem.qkv.cols;
  const PageFormat format = view.formatOf(page);
  const auto* steps = reinterpret_cast<const bf16*>(view.pages[page] + format.keyScales(block.kvHead));
  const int bits = bitsOf(format.precision);
  float highest = -std::numeric_limits<float>::infinity();
  for (int head = block.firstHead; head < block.firstHead + block.heads; ++head) {
    const float bound = kernels.promiseOfPage({row + std::int64_t{head} * headDim, turn.cosines.data(),
                                               turn.sines.data(), steps, steps + headDim, headDim,
                                               kReachShare * levelOf(bits, (1 << bits) - 1)});
    highest = higherOf(highest, bound);
  }
  return highest;
}

float AttentionWorker::highestScore(const AttentionKernels& kernels, const AttentionProblem& problem,
                                    const AttentionBlock& block, std::int64_t page, const Turn& turn) {
  float maxima[kBlockQueries];
  alignas(64) float sums[kBlockQueries * kSumLanes];
  std::fill_n(maxima, block.queries(), kNothingSeen);
  std::fill_n(sums, block.queries() * kSumLanes, 0.0f);
  loadQueries(kernels, problem, block, &turn);
  attendPages(kernels, problem, block, page, 1, -1, {maxima, sums, nullptr});
  float highest = -std::numeric_limits<float>::infinity();
  for (int query = 0; query < block.queries(); ++query) highest = higherOf(highest, maxima[query]);
  return highest;
}

void AttentionWorker::writeOut(const AttentionProblem& problem, const AttentionBlock& block,
                               const SoftmaxState& state) {
  const int headDim = problem.shape.headDim;
  for (int query = 0; query < block.queries(); ++query) {
    const std::int64_t row = problem.entries[block.entry].row + block.rowOf(query);
    state.finish(query, headDim,
                 problem.out.floats() + row * problem.out.cols + std::int64_t{block.headOf(query)} * headDim);
  }
}

void AttentionWorker::loadQueries(const AttentionKernels& kernels, const AttentionProblem& problem,
                                  const AttentionBlock& block, const Turn* turn) {
  const int headDim = problem.shape.headDim, stride = problem.stride();
  float turned[kMaxHeadDim];
  scale_ = problem.scale();
  for (int query = 0; query < block.queries(); ++query) {
    const std::int64_t row = problem.entries[block.entry].row + block.rowOf(query);
    const float* source =
        problem.qkv.floats() + row * problem.qkv.cols + std::int64_t{block.headOf(query)} * headDim;
    if (turn) {
      std::copy_n(source, headDim, turned);
      rotateHead({turned, static_cast<std::size_t>(headDim)}, turn->cosines, turn->sines);
      source = turned;
    }
    bf16* q = q_.data() + static_cast<std::size_t>(query) * stride;
    for (int channel = 0; channel < headDim; ++channel) q[channel] = toBf16(source[channel]);
    std::fill(q + headDim, q + stride, bf16{0});
  }
  if (kernels.quantizeQueries) {
    kernels.quantizeQueries({block.queries(), stride, q_.data(), numbers_.data(), units_});
  }
}

void AttentionWorker::attendLoaded(const AttentionKernels& kernels, const AttentionProblem& problem,
                                   const AttentionBlock& block, std::int64_t span,
                                   const SoftmaxState& state) {
  const std::int64_t first = std::max(block.firstPage, span * kSpanPages);
  const std::int64_t end = std::min(block.endPage, (span + 1) * kSpanPages);
  state.clear(block.queries(), problem.shape.headDim);
  const KvView& view = problem.views[block.entry];
  for (std::int64_t page = first; page < end;) {
    if (view.pages[page] == nullptr) {  // given up
      ++page;
      continue;
    }
    const PrecisionClass precision = view.formatOf(page).precision;
    // Which pages are together follows from their numbers and classes, so where blocks end changes no bit.
    const bool byCodes = kernels.attendCodes[static_cast<int>(precision)] != nullptr;
    const int most = byCodes ? pagesTogether(precision) : 1;
    int count = 1;
    while ((page + count) % most != 0 && page + count < end && view.pages[page + count] != nullptr &&
           view.formatOf(page + count).precision == precision) {
      ++count;
    }
    const std::int64_t next = page + count;
    attendPages(kernels, problem, block, page, count, next < end ? next : -1, state);
    page = next;
  }
}

void AttentionWorker::attendPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                  const AttentionBlock& block, std::int64_t page, int count,
                                  std::int64_t next, const SoftmaxState& state) {
  const KvView& view = problem.views[block.entry];
  const std::int64_t position = problem.entries[block.entry].position + block.firstRow;
  for (int i = 0; i < count; ++i) {
    std::uint32_t* visible = visible_[i];
    for (int row = 0; row < block.rows; ++row) {
      const std::uint32_t tokens = visibleTokens(page + i, position + row, problem.shape.window);
      for (int head = 0; head < block.heads; ++head) *visible++ = tokens;
    }
  }
  const AttendCodes attend = kernels.attendCodes[static_cast<int>(view.formatOf(page).precision)];
  for (int i = 0; i < block.kvHeads; ++i) {
    const int kvHead = block.kvHead + i;
    const bool isLast = i + 1 == block.kvHeads;
    Prefetch ahead[kMostTogether];
    for (int j = 0; j < count; ++j) {
      const std::int64_t wanted = isLast ? next + j : page + j;
      if ((isLast && next < 0) || wanted >= block.endPage || view.pages[wanted] == nullptr) continue;
      const PageFormat format = view.formatOf(wanted);
      const auto* begin =
          reinterpret_cast<const char*>(view.pages[wanted] + format.keys(isLast ? block.kvHead : kvHead + 1));
      // Of packed pages the scales are read first, which lie behind.
      const bool backwards = isPacked(format.precision);
      ahead[j].lines = static_cast<int>(format.headBytes() / 64);
      ahead[j].at = backwards ? begin + (ahead[j].lines - 1) * 64 : begin;
      ahead[j].stride = backwards ? -64 : 64;
    }
    if (attend) {
      attendCodes(attend, problem, block, i, page, count, ahead, state);
    } else {
      attendElements(kernels, problem, block, i, page, ahead[0], state);
    }
  }
}

void AttentionWorker::attendCodes(AttendCodes attend, const AttentionProblem& problem,
                                  const AttentionBlock& block, int head, std::int64_t page, int count,
                                  Prefetch* ahead, const SoftmaxState& state) {
  const KvView& view = problem.views[block.entry];
  const PageFormat format = view.formatOf(page);
  const int kvHead = block.kvHead + head, queries = block.queriesOfKvHead();
  PageCodes codes[kMostTogether];
  for (int i = 0; i < count; ++i) {
    const std::byte* bytes = view.pages[page + i];
    codes[i].keys = bytes + format.keys(kvHead);
    codes[i].values = bytes + format.values(kvHead);
    codes[i].keyScales = bytes + format.keyScales(kvHead);
    codes[i].valueScales = bytes + format.valueScales(kvHead);
  }
  if (queries > kTileQueries) codes[0].unpacked = unpacked_.data();
  for (int query = 0; query < queries; query += kTileQueries) {
    const QueryTile tile = tileFrom(problem, block, head, query, state);
    if (isHidden(count, query, tile.queries)) continue;
    for (int i = 0; i < count; ++i) codes[i].visible = visible_[i] + query;
    attend(tile, {codes, static_cast<std::size_t>(count)}, ahead);
    codes[0].isUnpacked = true;
  }
}

void AttentionWorker::attendElements(const AttentionKernels& kernels, const AttentionProblem& problem,
                                     const AttentionBlock& block, int head, std::int64_t page, Prefetch& next,
                                     const SoftmaxState& state) {
  const KvView& view = problem.views[block.entry];
  const PageFormat format = view.formatOf(page);
  const int stride = problem.stride();
  PageTile elements = elementsOf(kernels, view.pages[page], format, block.kvHead + head, next);
  setScales(kernels, view.pages[page], format, block, head, stride, elements);
  for (int query = 0; query < block.queriesOfKvHead(); query += kTileQueries) {
    QueryTile tile = tileFrom(problem, block, head, query, state);
    if (isHidden(1, query, tile.queries)) continue;
    elements.visible = visible_[0] + query;
    if (isPacked(format.precision)) {
      tile.q = folded_.data() + static_cast<std::size_t>(query) * stride;
      elements.keyOffsets = offsets_ + query;
    }
    kernels.attendPage(tile, elements, next);
  }
}

QueryTile AttentionWorker::tileFrom(const AttentionProblem& problem, const AttentionBlock& block, int head,
                                    int query, const SoftmaxState& state) const {
  const int queries = block.queriesOfKvHead();
  const auto first = static_cast<std::size_t>(head * queries + query);
  QueryTile tile;
  tile.queries = std::min(kTileQueries, queries - query);
  tile.headDim = problem.shape.headDim;
  tile.stride = problem.stride();
  tile.scale = scale_;
  tile.q = q_.data() + first * tile.stride;
  tile.maximum = state.maximum + first;
  tile.sum = state.sum + first * kSumLanes;
  if (state.out) tile.out = state.out + first * tile.headDim;
  tile.numbers = numbers_.data() + first * kNumbersStride;
  tile.units = units_ + first;
  return tile;
}

bool AttentionWorker::isHidden(int pages, int query, int queries) const {
  for (int i = 0; i < pages; ++i) {
    for (int j = query; j < query + queries; ++j) {
      if (visible_[i][j] != 0) return false;
    }
  }
  return true;
}

PageTile AttentionWorker::elementsOf(const AttentionKernels& kernels, const std::byte* page,
                                     const PageFormat& format, int kvHead, Prefetch& next) {
  const std::byte* keys = page + format.keys(kvHead);
  const std::byte* values = page + format.values(kvHead);
  PageTile tile;
  tile.keys = keys_.data();
  tile.values = values_.data();
  if (isPacked(format.precision)) {
    const int bits = bitsOf(format.precision);
    kernels.unpackCodes(bits, keys, format.headDim, 0, keys_.data(), next);
    kernels.unpackCodes(bits, values, format.headDim, format.headDim / 16, values_.data(), next);
  } else if (format.precision == PrecisionClass::int8) {
    const auto codes = [](const std::byte* bytes) { return reinterpret_cast<const std::int8_t*>(bytes); };
    kernels.expandCodes(codes(keys), keys_.data(), format.tileElements(), next);
    kernels.expandCodes(codes(values), values_.data(), format.tileElements(), next);
  } else {
    tile.keys = reinterpret_cast<const bf16*>(keys);
    tile.values = reinterpret_cast<const bf16*>(values);
  }
  return tile;
}

void AttentionWorker::setScales(const AttentionKernels& kernels, const std::byte* page,
                                const PageFormat& format, const AttentionBlock& block, int head, int stride,
                                PageTile& tile) {
  const std::byte* keyScales = page + format.keyScales(block.kvHead + head);
  const std::byte* valueScales = page + format.valueScales(block.kvHead + head);
  if (format.precision == PrecisionClass::int8) {
    tile.keyScales = reinterpret_cast<const float*>(keyScales);
    tile.valueScales = reinterpret_cast<const float*>(valueScales);
  } else if (isPacked(format.precision)) {
    const auto* steps = reinterpret_cast<const bf16*>(keyScales);
    const int queries = block.queriesOfKvHead();
    const bf16* q = q_.data() + static_cast<std::size_t>(head) * queries * stride;
    kernels.foldQueries(
        {queries, format.headDim, stride, q, steps, steps + format.headDim, folded_.data(), offsets_});
    const auto* scales = reinterpret_cast<const bf16*>(valueScales);
    for (int i = 0; i < 2 * kPageTokens; ++i) valueScales_[i] = toFloat(scales[i]);
    tile.valueScales = valueScales_;
    tile.valueMiddles = valueScales_ + kPageTokens;
  }
}

}  // namespace tandem::cpu
