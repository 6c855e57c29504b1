#include "cuda/partition-attention.h"

#include "core/error.h"
#include "cuda/decode-attention.h"
#include "cuda/partition-runs.h"
#include "cuda/select-pages.h"

namespace tandem::cuda {
namespace {

// Where the parts of the scratch memory begin, in bytes.
struct Places {
  std::size_t orders, pages, entries, slots, outRows, contexts, queries, parts, end;

  Places(const PartitionSizes& sizes, int heads, int kvHeads, int headDim, int topPages, int scoredPages) {
    const auto rows = static_cast<std::size_t>(sizes.rows), sequences = rows * kvHeads;
    const auto runs = static_cast<std::size_t>(sizes.mostRuns);
    orders = place(sequences * sizes.mostMid * sizeof(std::uint32_t));
    pages = place(sequences * strideOf(sizes, topPages, scoredPages) * sizeof(std::int32_t));
    entries = place(sequences * runs * kRunPages * sizeof(std::uint64_t));
    slots = place(sequences * sizeof(std::int32_t));
    outRows = place(sequences * sizeof(std::int32_t));
    contexts = place(sequences * sizeof(std::int32_t));
    queries = place(rows * runs * heads * headDim * sizeof(bf16));
    parts = place(decodeAttentionScratch(static_cast<int>(sequences),
                                         sizes.mostRuns * kRunPages * kPageTokens, heads / kvHeads, headDim));
    end = used_;
  }

  static int strideOf(const PartitionSizes& sizes, int topPages, int scoredPages) {
    SelectPages selection;
    selection.topPages = topPages;
    selection.scoredPages = scoredPages;
    selection.mostMid = sizes.mostMid;
    return selection.pageStride();
  }

 private:
  std::size_t place(std::size_t bytes) {
    constexpr std::size_t kAlignment = 256;
    const std::size_t begin = used_;
    used_ = (begin + bytes + kAlignment - 1) / kAlignment * kAlignment;
    return begin;
  }

  std::size_t used_ = 0;
};

}  // namespace

std::size_t partitionScratch(const PartitionSizes& sizes, int heads, int kvHeads, int headDim, int topPages,
                             int scoredPages) {
  return Places(sizes, heads, kvHeads, headDim, topPages, scoredPages).end;
}

void attendPartitions(const PartitionAttention& problem, Stream stream) {
  const auto& [qkv, tables, rows, sizes, ofSeveral, heads, topPages, scoredPages, turns, scratch, out] =
      problem;
  const PageFormat& format = tables.format;
  check(format.kvHeads > 0 && heads > 0 && heads % format.kvHeads == 0,
        "attendPartitions: heads must be a multiple of kvHeads");
  const Places places(sizes, heads, format.kvHeads, format.headDim, topPages, scoredPages);

  SelectPages selection;
  selection.qkv = qkv;
  selection.tables = tables;
  selection.rows = rows;
  selection.rowCount = sizes.rows;
  selection.ofSeveral = ofSeveral;
  selection.heads = heads;
  selection.topPages = topPages;
  selection.scoredPages = scoredPages;
  selection.mostMid = sizes.mostMid;
  selection.turns = turns;
  selection.orders = reinterpret_cast<std::uint32_t*>(scratch + places.orders);
  selection.pages = reinterpret_cast<std::int32_t*>(scratch + places.pages);
  selectPages(selection, stream);

  PartitionRuns runs;
  runs.qkv = qkv;
  runs.tables = tables;
  runs.rows = rows;
  runs.rowCount = sizes.rows;
  runs.heads = heads;
  runs.topPages = topPages;
  runs.pages = selection.pages;
  runs.pageStride = selection.pageStride();
  runs.turns = turns;
  runs.mostRuns = sizes.mostRuns;
  runs.entries = reinterpret_cast<std::uint64_t*>(scratch + places.entries);
  runs.slots = reinterpret_cast<std::int32_t*>(scratch + places.slots);
  runs.outRows = reinterpret_cast<std::int32_t*>(scratch + places.outRows);
  runs.contexts = reinterpret_cast<std::int32_t*>(scratch + places.contexts);
  runs.queries = reinterpret_cast<bf16*>(scratch + places.queries);
  partitionRuns(runs, stream);

  DecodeAttention attention;
  attention.tables = {runs.entries,
                      std::int64_t{sizes.mostRuns} * kRunPages,
                      runs.slots,
                      {format.precision, 1, format.headDim}};
  attention.rows = runs.outRows;
  attention.contexts = runs.contexts;
  attention.sequences = sizes.rows * format.kvHeads;
  attention.mostTokens = sizes.mostRuns * kRunPages * kPageTokens;
  attention.heads = heads / format.kvHeads;
  attention.parts = reinterpret_cast<float*>(scratch + places.parts);
  attention.out = out;
  attention.runQueries = runs.queries;
  decodeAttention(attention, stream);
}

}  // namespace tandem::cuda
