#include "cpu/attention/worker.h"

#include <algorithm>
#include <numeric>

#include "cpu/rope.h"
#include "kv/page-content.h"

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

PageCodes codesIn(const PageContent& content, int kvHead) {
  const auto& [page, format] = content;
  PageCodes codes;
  codes.keys = page + format.keys(kvHead);
  codes.values = page + format.values(kvHead);
  codes.keyScales = page + format.keyScales(kvHead);
  codes.valueScales = page + format.valueScales(kvHead);
  return codes;
}

Prefetch prefetchOf(const std::byte* headBlock, const PageFormat& format) {
  Prefetch ahead;
  ahead.lines = static_cast<int>(format.headBytes() / 64);
  // Of packed pages the scales are read first, which lie behind.
  const bool backwards = isPacked(format.precision);
  ahead.at = reinterpret_cast<const char*>(headBlock) + (backwards ? (ahead.lines - 1) * 64 : 0);
  ahead.stride = backwards ? -64 : 64;
  return ahead;
}

// Tiles are of one KV head's queries.
int tilesOfKvHead(const AttentionBlock& block) {
  return (block.queriesOfKvHead() + kTileQueries - 1) / kTileQueries;
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
  // Behind all others: between numbers_ and unpacked_ it moved these so that they met in the same cache sets,
  // and prompts over int8 pages took 1.2 times as long (AVX-512).
  unturned_.reserve(static_cast<std::size_t>(kBlockQueries) * kNumbersStride);
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
      setTiles(problem, block, {maxima, lanes, nullptr});
      attendPages(kernels, problem, block, page, 1, page + 1 < block.endPage ? page + 1 : -1);
    }
    for (int query = 0; query < queries; ++query) {
      sums[query] = std::accumulate(lanes + query * kSumLanes, lanes + (query + 1) * kSumLanes, 0.0f);
    }
  }
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
  setTiles(problem, block, state);
  const KvView& view = problem.views[block.entry];
  for (std::int64_t page = first; page < end;) {
    if (view.pages[page] == nullptr) {  // given up
      ++page;
      continue;
    }
    const PrecisionClass precision = elementClass(view.formatOf(page).precision);
    // Which pages are together follows from their numbers and classes, so where blocks end changes no bit.
    const bool byCodes = kernels.attendCodes[static_cast<int>(precision)] != nullptr;
    const int most = byCodes ? pagesTogether(precision) : 1;
    int count = 1;
    while ((page + count) % most != 0 && page + count < end && view.pages[page + count] != nullptr &&
           elementClass(view.formatOf(page + count).precision) == precision) {
      ++count;
    }
    const std::int64_t next = page + count;
    attendPages(kernels, problem, block, page, count, next < end ? next : -1);
    page = next;
  }
}

void AttentionWorker::attendPages(const AttentionKernels& kernels, const AttentionProblem& problem,
                                  const AttentionBlock& block, std::int64_t page, int count,
                                  std::int64_t next) {
  const KvView& view = problem.views[block.entry];
  const auto contentAt = [&](std::int64_t at) { return contentOf(view.pages[at], view.formatOf(at)); };
  const PageFormat format = view.format.in(elementClass(view.formatOf(page).precision));
  const std::size_t headBytes = format.headBytes();
  const bool isSeenWhole = setVisible(problem, block, page, count);
  const AttendCodes attend = kernels.attendCodes[static_cast<int>(format.precision)];
  PageCodes codes[kMostTogether];
  Prefetch ahead[kMostTogether];
  for (int i = 0; i < count; ++i) codes[i] = codesIn(contentAt(page + i), block.kvHead);
  for (int head = 0; head < block.kvHeads; ++head) {
    const bool isLast = head + 1 == block.kvHeads;
    for (int i = 0; i < count; ++i) {
      if (!isLast) {
        ahead[i] = prefetchOf(codes[i].keys + headBytes, format);
      } else if (next >= 0 && next + i < block.endPage && view.pages[next + i] != nullptr) {
        const PageContent other = contentAt(next + i);
        ahead[i] = prefetchOf(other.data + other.format.keys(block.kvHead), other.format);
      } else {
        ahead[i] = {};
      }
    }
    if (attend) {
      attendCodes(attend, block, head, {codes, static_cast<std::size_t>(count)}, isSeenWhole, ahead);
    } else {
      attendElements(kernels, block, head, format, codes[0], isSeenWhole, ahead[0]);
    }
    for (int i = 0; i < count; ++i) codes[i].advance(headBytes);
  }
}

void AttentionWorker::attendCodes(AttendCodes attend, const AttentionBlock& block, int head,
                                  std::span<PageCodes> codes, bool isSeenWhole, Prefetch* ahead) {
  const int tiles = tilesOfKvHead(block);
  if (tiles > 1) codes[0].unpacked = unpacked_.data();
  for (int i = 0; i < tiles; ++i) {
    const QueryTile& tile = tiles_[head * tiles + i];
    const int query = i * kTileQueries;
    if (!isSeenWhole && isHidden(static_cast<int>(codes.size()), query, tile.queries)) continue;
    for (std::size_t j = 0; j < codes.size(); ++j) codes[j].visible = visible_[j] + query;
    attend(tile, codes, ahead);
    codes[0].isUnpacked = true;
  }
}

void AttentionWorker::attendElements(const AttentionKernels& kernels, const AttentionBlock& block, int head,
                                     const PageFormat& format, const PageCodes& codes, bool isSeenWhole,
                                     Prefetch& next) {
  const int tiles = tilesOfKvHead(block);
  const bool withValues = tiles_[head * tiles].out != nullptr;
  PageTile elements = elementsOf(kernels, codes, format, withValues, next);
  setScales(kernels, codes, format, block, head, elements);
  for (int i = 0; i < tiles; ++i) {
    QueryTile tile = tiles_[head * tiles + i];
    const int query = i * kTileQueries;
    if (!isSeenWhole && isHidden(1, query, tile.queries)) continue;
    elements.visible = visible_[0] + query;
    if (isPacked(format.precision)) {
      tile.q = folded_.data() + static_cast<std::size_t>(query) * tile.stride;
      elements.keyOffsets = offsets_ + query;
    }
    kernels.attendPage(tile, elements, next);
  }
}

void AttentionWorker::setTiles(const AttentionProblem& problem, const AttentionBlock& block,
                               const SoftmaxState& state) {
  const int queries = block.queriesOfKvHead();
  QueryTile* tile = tiles_;
  for (int head = 0; head < block.kvHeads; ++head) {
    for (int query = 0; query < queries; query += kTileQueries, ++tile) {
      const auto first = static_cast<std::size_t>(head * queries + query);
      tile->queries = std::min(kTileQueries, queries - query);
      tile->headDim = problem.shape.headDim;
      tile->stride = problem.stride();
      tile->scale = scale_;
      tile->q = q_.data() + first * tile->stride;
      tile->maximum = state.maximum + first;
      tile->sum = state.sum + first * kSumLanes;
      tile->out = state.out ? state.out + first * tile->headDim : nullptr;
      tile->numbers = numbers_.data() + first * kNumbersStride;
      tile->units = units_ + first;
    }
  }
}

bool AttentionWorker::setVisible(const AttentionProblem& problem, const AttentionBlock& block,
                                 std::int64_t page, int count) {
  const std::int64_t position = problem.entries[block.entry].position + block.firstRow;
  std::uint32_t byAll = 0xffffffffu;
  for (int i = 0; i < count; ++i) {
    std::uint32_t* visible = visible_[i];
    for (int row = 0; row < block.rows; ++row) {
      const std::uint32_t tokens = visibleTokens(page + i, position + row, problem.shape.window);
      for (int head = 0; head < block.heads; ++head) *visible++ = tokens;
      byAll &= tokens;
    }
  }
  return byAll == 0xffffffffu;
}

bool AttentionWorker::isHidden(int pages, int query, int queries) const {
  for (int i = 0; i < pages; ++i) {
    for (int j = query; j < query + queries; ++j) {
      if (visible_[i][j] != 0) return false;
    }
  }
  return true;
}

PageTile AttentionWorker::elementsOf(const AttentionKernels& kernels, const PageCodes& codes,
                                     const PageFormat& format, bool withValues, Prefetch& next) {
  PageTile tile;
  tile.keys = keys_.data();
  tile.values = values_.data();
  if (isPacked(format.precision)) {
    const int bits = bitsOf(format.precision);
    kernels.unpackCodes(bits, codes.keys, format.headDim, 0, keys_.data(), next);
    if (withValues) {
      kernels.unpackCodes(bits, codes.values, format.headDim, format.headDim / 16, values_.data(), next);
    }
  } else if (format.precision == PrecisionClass::int8) {
    const auto int8 = [](const std::byte* bytes) { return reinterpret_cast<const std::int8_t*>(bytes); };
    kernels.expandCodes(int8(codes.keys), keys_.data(), format.tileElements(), next);
    if (withValues) kernels.expandCodes(int8(codes.values), values_.data(), format.tileElements(), next);
  } else {
    tile.keys = reinterpret_cast<const bf16*>(codes.keys);
    tile.values = reinterpret_cast<const bf16*>(codes.values);
  }
  return tile;
}

void AttentionWorker::setScales(const AttentionKernels& kernels, const PageCodes& codes,
                                const PageFormat& format, const AttentionBlock& block, int head,
                                PageTile& tile) {
  if (format.precision == PrecisionClass::int8) {
    tile.keyScales = reinterpret_cast<const float*>(codes.keyScales);
    tile.valueScales = reinterpret_cast<const float*>(codes.valueScales);
  } else if (isPacked(format.precision)) {
    const auto* steps = reinterpret_cast<const bf16*>(codes.keyScales);
    const QueryTile& first = tiles_[head * tilesOfKvHead(block)];
    kernels.foldQueries({block.queriesOfKvHead(), format.headDim, first.stride, first.q, steps,
                         steps + format.headDim, folded_.data(), offsets_});
    const auto* scales = reinterpret_cast<const bf16*>(codes.valueScales);
    for (int i = 0; i < 2 * kPageTokens; ++i) valueScales_[i] = toFloat(scales[i]);
    tile.valueScales = valueScales_;
    tile.valueMiddles = valueScales_ + kPageTokens;
  }
}

}  // namespace tandem::cpu
