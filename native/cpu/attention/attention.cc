#include "cpu/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "core/error.h"
#include "cpu/aligned-array.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/softmax-state.h"

namespace tandem::cpu {
namespace {

constexpr int kSpanPages = kSpanTokens / kPageTokens;
constexpr int kMaxHeadDim = 256;

// Queries of a block at most. A page is loaded (and its codes expanded) once for all tiles of a block, so its
// bytes move from the outer caches once per this many queries; more would push the block's own sums out of
// L2.
constexpr int kBlockQueries = 4 * kTileQueries;

// Rows of one entry and heads of one KV head's group: what one thread computes against one list of pages.
// Query number i of a block is row i / heads, head i % heads.
struct Block {
  int entry;
  int kvHead;
  int firstHead;
  int heads;
  std::int64_t firstRow;  // in the entry
  int rows;
  std::int64_t firstPage;
  std::int64_t endPage;

  int queries() const { return rows * heads; }
  std::int64_t firstSpan() const { return firstPage / kSpanPages; }
  std::int64_t spans() const { return (endPage - 1) / kSpanPages - firstSpan() + 1; }
  std::int64_t cost() const { return (endPage - firstPage) * queries(); }
};

// Where a span of a block is computed when blocks are too few for the team.
struct SpanItem {
  int block;
  std::int64_t span;
  std::size_t state;  // offset of its SoftmaxState
};

struct Problem {
  Tensor qkv;
  std::span<const EntryRows> entries;
  std::span<const KvView> views;
  AttentionShape shape;
  Tensor out;

  int stride() const { return (shape.headDim + 31) / 32 * 32; }
  float scale() const {
    return static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(shape.headDim)));
  }
};

void validate(const Problem& problem) {
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

void appendBlocks(const Problem& problem, int entryIndex, std::vector<Block>& blocks) {
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
    for (int kvHead = 0; kvHead < shape.kvHeads; ++kvHead) {
      for (int first = 0; first < group; first += heads) {
        blocks.push_back({entryIndex, kvHead, kvHead * group + first, std::min(heads, group - first), row,
                          static_cast<int>(end - row), oldest / kPageTokens, newest / kPageTokens + 1});
      }
    }
  }
}

// Bits of the tokens of page `page` that the token at `position` sees.
std::uint32_t visibleTokens(std::int64_t page, std::int64_t position, int window) {
  const std::int64_t base = page * kPageTokens;
  const std::int64_t end = std::clamp<std::int64_t>(position + 1 - base, 0, kPageTokens);
  const std::int64_t begin =
      window > 0 ? std::clamp<std::int64_t>(position - window + 1 - base, 0, kPageTokens) : 0;
  if (begin >= end) return 0;
  return static_cast<std::uint32_t>(((std::uint64_t{1} << end) - 1) & ~((std::uint64_t{1} << begin) - 1));
}

// One thread's memory.
class Worker {
 public:
  void reserve(int headDim, int stride) {
    q_.reserve(static_cast<std::size_t>(kBlockQueries) * stride);
    folded_.reserve(static_cast<std::size_t>(kBlockQueries) * stride);
    keys_.reserve(static_cast<std::size_t>(kPageTokens) * stride);
    values_.reserve(static_cast<std::size_t>(kPageTokens) * headDim);
    total_.reserve(SoftmaxState::elements(kBlockQueries, headDim));
    part_.reserve(SoftmaxState::elements(kBlockQueries, headDim));
  }

  // The whole block, span after span, into the output.
  void attendBlock(const AttentionKernels& kernels, const Problem& problem, const Block& block) {
    const int headDim = problem.shape.headDim;
    loadQueries(problem, block);
    const SoftmaxState total = SoftmaxState::in(total_.data(), block.queries(), headDim);
    const SoftmaxState part = SoftmaxState::in(part_.data(), block.queries(), headDim);
    for (std::int64_t i = 0; i < block.spans(); ++i) {
      attendLoaded(kernels, problem, block, block.firstSpan() + i, i == 0 ? total : part);
      if (i > 0) total.merge(part, block.queries(), headDim);
    }
    writeOut(problem, block, total);
  }

  // One span of the block, into a state of its own.
  void attendSpan(const AttentionKernels& kernels, const Problem& problem, const Block& block,
                  std::int64_t span, const SoftmaxState& state) {
    loadQueries(problem, block);
    attendLoaded(kernels, problem, block, span, state);
  }

  static void writeOut(const Problem& problem, const Block& block, const SoftmaxState& state) {
    const int headDim = problem.shape.headDim;
    for (int query = 0; query < block.queries(); ++query) {
      const std::int64_t row = problem.entries[block.entry].row + block.firstRow + query / block.heads;
      const std::int64_t head = block.firstHead + query % block.heads;
      state.finish(query, headDim, problem.out.floats() + row * problem.out.cols + head * headDim);
    }
  }

 private:
  void loadQueries(const Problem& problem, const Block& block) {
    const int headDim = problem.shape.headDim, stride = problem.stride();
    for (int query = 0; query < block.queries(); ++query) {
      const std::int64_t row = problem.entries[block.entry].row + block.firstRow + query / block.heads;
      const std::int64_t head = block.firstHead + query % block.heads;
      const float* source = problem.qkv.floats() + row * problem.qkv.cols + head * headDim;
      bf16* q = q_.data() + static_cast<std::size_t>(query) * stride;
      for (int channel = 0; channel < headDim; ++channel) q[channel] = toBf16(source[channel]);
      std::fill(q + headDim, q + stride, bf16{0});
    }
  }

  void attendLoaded(const AttentionKernels& kernels, const Problem& problem, const Block& block,
                    std::int64_t span, const SoftmaxState& state) {
    const KvView& view = problem.views[block.entry];
    const int headDim = problem.shape.headDim, stride = problem.stride();
    const std::int64_t position = problem.entries[block.entry].position + block.firstRow;
    const std::int64_t first = std::max(block.firstPage, span * kSpanPages);
    const std::int64_t end = std::min(block.endPage, (span + 1) * kSpanPages);
    state.clear(block.queries(), headDim);

    std::uint32_t visible[kBlockQueries];
    for (std::int64_t page = first; page < end; ++page) {
      for (int query = 0; query < block.queries(); ++query) {
        visible[query] = visibleTokens(page, position + query / block.heads, problem.shape.window);
      }
      Prefetch next;
      if (page + 1 < end) {
        const PageFormat format = view.formatOf(page + 1);
        next.at = reinterpret_cast<const char*>(view.pages[page + 1] + format.keys(block.kvHead));
        next.end = next.at + format.headBytes();
      }
      const PageFormat format = view.formatOf(page);
      const std::byte* bytes = view.pages[page];
      const AttendPage direct =
          block.queries() <= kFewQueries ? kernels.attendCodes[static_cast<int>(format.precision)] : nullptr;
      PageTile tile = direct ? codesOf(bytes, format, block.kvHead)
                             : elementsOf(kernels, bytes, format, block.kvHead, next);
      setScales(kernels, bytes, format, block, stride, tile);
      const bf16* q = isPacked(format.precision) ? folded_.data() : q_.data();
      for (int query = 0; query < block.queries(); query += kTileQueries) {
        const int queries = std::min(kTileQueries, block.queries() - query);
        tile.visible = visible + query;
        if (std::all_of(tile.visible, tile.visible + queries, [](std::uint32_t bits) { return bits == 0; })) {
          continue;
        }
        if (isPacked(format.precision)) tile.keyOffsets = offsets_ + query;
        (direct ? direct : kernels.attendPage)(
            {queries, headDim, stride, problem.scale(), q + static_cast<std::size_t>(query) * stride,
             state.maximum + query, state.sum + query * kSumLanes,
             state.out + static_cast<std::size_t>(query) * headDim},
            tile, next);
      }
    }
  }

  static PageTile codesOf(const std::byte* page, const PageFormat& format, int kvHead) {
    PageTile tile;
    tile.keyCodes = page + format.keys(kvHead);
    tile.valueCodes = page + format.values(kvHead);
    return tile;
  }

  // The page's keys and values as bf16: where they lie, or written down.
  PageTile elementsOf(const AttentionKernels& kernels, const std::byte* page, const PageFormat& format,
                      int kvHead, Prefetch& next) {
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

  void setScales(const AttentionKernels& kernels, const std::byte* page, const PageFormat& format,
                 const Block& block, int stride, PageTile& tile) {
    const std::byte* keyScales = page + format.keyScales(block.kvHead);
    const std::byte* valueScales = page + format.valueScales(block.kvHead);
    if (format.precision == PrecisionClass::int8) {
      tile.keyScales = reinterpret_cast<const float*>(keyScales);
      tile.valueScales = reinterpret_cast<const float*>(valueScales);
    } else if (isPacked(format.precision)) {
      const auto* steps = reinterpret_cast<const bf16*>(keyScales);
      kernels.foldQueries({block.queries(), format.headDim, stride, q_.data(), steps, steps + format.headDim,
                           folded_.data(), offsets_});
      const auto* scales = reinterpret_cast<const bf16*>(valueScales);
      for (int i = 0; i < 2 * kPageTokens; ++i) valueScales_[i] = toFloat(scales[i]);
      tile.valueScales = valueScales_;
      tile.valueMiddles = valueScales_ + kPageTokens;
    }
  }

  AlignedArray<bf16> folded_;     // the queries with a packed page's key steps in them
  float offsets_[kBlockQueries];  // and what its key middles add to their scores
  float valueScales_[2 * kPageTokens];
  AlignedArray<bf16> q_, keys_, values_;
  AlignedArray<float> total_, part_;
};

}  // namespace

struct AttentionWorkspace::Impl {
  std::vector<Worker> workers;
  std::vector<Block> blocks;
  std::vector<SpanItem> items;
  AlignedArray<float> states;
};

AttentionWorkspace::AttentionWorkspace() : impl_(std::make_unique<Impl>()) {}
AttentionWorkspace::~AttentionWorkspace() = default;

namespace {

void attendSpans(const AttentionKernels& kernels, ThreadTeam& team, AttentionWorkspace::Impl& scratch,
                 const Problem& problem) {
  const int headDim = problem.shape.headDim;
  scratch.items.clear();
  std::size_t elements = 0;
  for (int i = 0; i < static_cast<int>(scratch.blocks.size()); ++i) {
    const Block& block = scratch.blocks[i];
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
    const Block& block = scratch.blocks[scratch.items[i].block];
    const SoftmaxState total = stateOf(scratch.items[i]);
    const std::size_t end = i + static_cast<std::size_t>(block.spans());
    for (++i; i < end; ++i) total.merge(stateOf(scratch.items[i]), block.queries(), headDim);
    Worker::writeOut(problem, block, total);
  }
}

}  // namespace

void attention(Isa isa, ThreadTeam& team, AttentionWorkspace& workspace, Tensor qkv,
               std::span<const EntryRows> entries, std::span<const KvView> views, const AttentionShape& shape,
               Tensor out) {
  const Problem problem{qkv, entries, views, shape, out};
  validate(problem);
  const AttentionKernels kernels = attentionKernels(isa);
  AttentionWorkspace::Impl& scratch = workspace.impl();
  if (static_cast<int>(scratch.workers.size()) < team.size()) scratch.workers.resize(team.size());
  for (Worker& worker : scratch.workers) worker.reserve(shape.headDim, problem.stride());

  scratch.blocks.clear();
  std::int64_t spans = 0;
  for (int i = 0; i < static_cast<int>(entries.size()); ++i) appendBlocks(problem, i, scratch.blocks);
  for (const Block& block : scratch.blocks) spans += block.spans();
  const auto blocks = static_cast<std::int64_t>(scratch.blocks.size());

  // Which way is taken changes no bit, so it may depend on the team. Below four blocks a thread, the last
  // ones to finish would leave too much of the team idle.
  if (team.size() > 1 && blocks < 4 * team.size() && spans > blocks) {
    attendSpans(kernels, team, scratch, problem);
    return;
  }
  // The costly ones first, so that the threads end together.
  std::stable_sort(scratch.blocks.begin(), scratch.blocks.end(),
                   [](const Block& a, const Block& b) { return a.cost() > b.cost(); });
  team.forEach(blocks, [&](std::int64_t i, int thread) {
    scratch.workers[thread].attendBlock(kernels, problem, scratch.blocks[i]);
  });
}

}  // namespace tandem::cpu
