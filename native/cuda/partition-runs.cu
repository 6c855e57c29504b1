// A block is a row and a KV head. Bytes: 8 read and up to 64 written a page that is seen, and for each run
// and query head 2 * headDim of the query and 4 * headDim of the turn read, and 2 * headDim written: some 4%
// of what attention reads of the pages themselves.

#include "cuda/partition-runs.h"

#include "core/error.h"
#include "cuda/attention-order.h"
#include "cuda/kernel.h"
#include "cuda/page-turns.h"

namespace tandem::cuda {
namespace {

static_assert(kRunPages * kPageTokens == kRunTokens);

constexpr int kThreads = 128;
constexpr int kBlocks = 12;  // of an SM; for more the compiler spills

// The entry of a head's block in the page that has it, as of a page of one KV head.
__device__ std::uint64_t headEntry(std::uint64_t entry, const PageFormat& format, int kvHead) {
  if (entry == 0) return 0;
  const std::uint64_t detail = PageTables::detailOf(entry, format.in(PrecisionClass::far));
  const PrecisionClass precision = PageTables::classOf(detail);
  return pageEntry(PageTables::pageOf(detail) + format.in(precision).keys(kvHead), precision);
}

__global__ void __launch_bounds__(kThreads, kBlocks) layOutRuns(const PartitionRuns problem) {
  // The turn of each run.
  auto* turnOfRun = reinterpret_cast<std::int32_t*>(dynamicShared());
  __shared__ int midRuns;
  const PartitionedRow row = problem.rows[blockIdx.y];
  const PageFormat& format = problem.tables.format;
  const int kvHead = static_cast<int>(blockIdx.x), group = problem.heads / format.kvHeads;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const std::int64_t own = std::int64_t{blockIdx.y} * format.kvHeads + kvHead;
  std::uint64_t* entries = problem.entries + own * problem.mostRuns * kRunPages;
  const auto entryOf = [&](int page) {
    return headEntry(problem.tables.entry(row.sequence, page), format, kvHead);
  };

  for (int place = thread; place < problem.mostRuns * kRunPages; place += kThreads) entries[place] = 0;
  __syncthreads();
  const int sinkRuns = (row.sinkPages + kRunPages - 1) / kRunPages;
  for (int page = thread; page < row.sinkPages; page += kThreads) entries[page] = entryOf(page);
  for (int run = thread; run < sinkRuns; run += kThreads) turnOfRun[run] = row.sinkTurn;

  if (thread < 32) {
    const bool seesAll = row.midPages() <= problem.topPages;
    const int count = seesAll ? row.midPages() : problem.topPages;
    const std::int32_t* chosen = problem.pages + own * problem.pageStride;
    // Of the last page so far: itself, where its neighbours begin, and its run.
    int lastPage = -1, lastBegin = 0, runs = sinkRuns;
    for (int first = 0; first < count; first += 32) {
      const int i = first + lane;
      const bool isThere = i < count;
      const int page = isThere ? (seesAll ? row.sinkPages + i : chosen[i]) : 0;
      int before = __shfl_up_sync(kWholeWarp, page, 1);
      if (lane == 0) before = lastPage;
      // Neighbours have the same pages absent behind them, whatever else is chosen.
      const bool begins = isThere && (i == 0 || page != before + 1);
      int begin = begins ? i : -1;
      for (int lanes = 1; lanes < 32; lanes *= 2) {
        const int lower = __shfl_up_sync(kWholeWarp, begin, static_cast<unsigned>(lanes));
        if (lane >= lanes) begin = max(begin, lower);
      }
      if (begin < 0) begin = lastBegin;
      const bool beginsRun = isThere && (i - begin) % kRunPages == 0;
      const std::uint32_t beginning = __ballot_sync(kWholeWarp, beginsRun);
      const int run = runs + __popc(beginning & (0xffffffffu >> (31 - lane))) - 1;
      if (isThere) entries[run * kRunPages + (i - begin) % kRunPages] = entryOf(page);
      if (beginsRun) turnOfRun[run] = row.midEnd - page - (count - i);
      runs += __popc(beginning);
      lastPage = __shfl_sync(kWholeWarp, page, 31);
      lastBegin = __shfl_sync(kWholeWarp, begin, 31);
    }
    if (lane == 0) midRuns = runs - sinkRuns;
  }
  __syncthreads();

  const int recentRun = sinkRuns + midRuns, recent = row.recentPages();
  const int runs = recentRun + (recent + kRunPages - 1) / kRunPages;
  for (int i = thread; i < recent; i += kThreads) {
    entries[recentRun * kRunPages + i] = entryOf(row.midEnd + i);
  }
  for (int run = recentRun + thread; run < runs; run += kThreads) turnOfRun[run] = 0;
  if (thread == 0) {
    problem.slots[own] = static_cast<std::int32_t>(own);
    problem.outRows[own] = row.row * format.kvHeads + kvHead;
    problem.contexts[own] =
        (recentRun * kRunPages + recent - 1) * kPageTokens + row.position % kPageTokens + 1;
  }
  __syncthreads();

  const int half = format.headDim / 2, partsOfHead = half / 4;
  const std::int64_t cols = std::int64_t{problem.heads + 2 * format.kvHeads} * format.headDim;
  const bf16* queries = problem.qkv + row.row * cols + std::int64_t{kvHead} * group * format.headDim;
  bf16* made = problem.queries + own * problem.mostRuns * group * format.headDim;
  for (int i = thread; i < runs * group * partsOfHead; i += kThreads) {
    const int run = i / (group * partsOfHead), head = i / partsOfHead % group,
              channel = 4 * (i % partsOfHead);
    const bf16* query = queries + head * format.headDim + channel;
    const QueryPart part{*reinterpret_cast<const uint2*>(query),
                         *reinterpret_cast<const uint2*>(query + half)};
    const float* turn = problem.turns + std::int64_t{turnOfRun[run]} * format.headDim;
    const QueryPart turned = part.turned(turn, half, channel);
    bf16* to = made + std::int64_t{run * group + head} * format.headDim + channel;
    *reinterpret_cast<uint2*>(to) = turned.first;
    *reinterpret_cast<uint2*>(to + half) = turned.second;
  }
}

}  // namespace

void partitionRuns(const PartitionRuns& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "partitionRuns: heads must be a multiple of kvHeads");
  check(format.headDim % 8 == 0, "partitionRuns: a head dimension must be a multiple of 8");
  check(problem.rowCount <= 65535, "partitionRuns takes up to 65535 rows");
  if (problem.rowCount == 0) return;
  const dim3 grid(static_cast<unsigned>(format.kvHeads), static_cast<unsigned>(problem.rowCount));
  launchShared("partitionRuns", layOutRuns, grid, kThreads,
               static_cast<std::size_t>(problem.mostRuns) * sizeof(std::int32_t), stream, problem);
}

}  // namespace tandem::cuda
