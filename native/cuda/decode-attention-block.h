#pragma once

// What the warps of a block of decode-attention.cu share: which runs of which sequence and KV head they
// attend to, the pages of these, and their shared memory.

#include <cstddef>
#include <cstdint>

#include "cuda/attention-order.h"
#include "cuda/decode-attention.h"
#include "cuda/decode-runs.h"
#include "cuda/kernel.h"
#include "cuda/page-tiles.h"

namespace tandem::cuda::decode {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kRunPages = kRunTokens / kPageTokens;

// Runs that a block takes one after another at most: the entries of their pages are one a lane.
inline constexpr int kBlockRuns = 32 / kRunPages;

// A page for each warp, which are two steps.
inline constexpr int kRoundPages = kWarps;
inline constexpr int kRoundTokens = kRoundPages * kPageTokens;
inline constexpr int kRoundSteps = kRoundTokens / kStepTokens, kRunRounds = kRunTokens / kRoundTokens;
static_assert(kRoundSteps == 2 && kRunTokens % kRoundTokens == 0 && kQuarters == 4);

struct Work {
  DecodeAttention problem;
  int group;      // heads of a KV head
  int runs;       // of the longest context
  int blockRuns;  // of a block
  float scale;
};

template <int kTiles>
struct Exchange {
  float highest[kWarps][8 * kTiles];          // of each page's scores
  float2 classes[2][2][kTiles][32];           // sums of a step's classes by page, quarter and lane
  float sums[kQuarters][8 * kTiles];          // of all classes of a quarter
  uint2 weights[kRoundPages][2][kTiles][32];  // by page, quarter and lane
};

template <int kHeadDim, int kTiles, PrecisionClass kPool>
struct Shared {
  std::byte keys[kWarps][PageTile<kHeadDim, true, kPool>::kSlotBytes];
  std::byte values[kWarps][PageTile<kHeadDim, false, kPool>::kSlotBytes];
  uint2 queries[kHeadDim / 16][kTiles][32];  // by depth, tile and lane
  Exchange<kTiles> exchange;
};

// Which classes a block's pages have, and which are seen at all: a bit for each page.
class PageClasses {
 public:
  // Of a lane's page. The whole warp together.
  __device__ explicit PageClasses(std::uint64_t entry)
      : seen_(__ballot_sync(kWholeWarp, entry != 0)),
        low_(__ballot_sync(kWholeWarp, entry & 1)),
        high_(__ballot_sync(kWholeWarp, entry & 2)) {}

  __device__ bool isSeen(int page) const { return seen_ >> page & 1; }
  __device__ bool isAnySeenFrom(int page) const { return seen_ >> page != 0; }
  __device__ PrecisionClass of(int page) const {
    return static_cast<PrecisionClass>((low_ >> page & 1) | (high_ >> page & 1) << 1);
  }
  // Whether a round's pages from `first` on are all seen and of the same class.
  __device__ bool areAlike(int first) const {
    constexpr std::uint32_t kAll = (1 << kRoundPages) - 1;
    const std::uint32_t low = low_ >> first & kAll, high = high_ >> first & kAll;
    return (seen_ >> first & kAll) == kAll && (low == 0 || low == kAll) && (high == 0 || high == kAll);
  }

 private:
  std::uint32_t seen_, low_, high_;
};

}  // namespace tandem::cuda::decode
