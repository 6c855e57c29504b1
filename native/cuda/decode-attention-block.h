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
  float4 highest[8 * kTiles];         // of the scores of each page
  float4 classes[2][kTiles][32];      // sums of a step's classes by page and lane
  float sums[kQuarters][8 * kTiles];  // of all classes of a quarter
};

// Operands of four columns of each tile, which 16 lanes hold.
template <int kHeadDim, int kTiles>
struct ColumnOperands {
  uint2 queries[kHeadDim / 16][kTiles][16];  // by depth, tile and lane
  uint4 weights[kRoundPages][kTiles][16];    // by page, tile and lane
};

// Heads of a group that four columns are enough for. The other lanes take the same operands then, so that
// their columns are computed again, which nobody reads: that leaves room for another block.
inline constexpr int kFewHeads = 4;

template <int kHeadDim, int kTiles, PrecisionClass kPool>
struct Shared {
  std::byte keys[kWarps][PageTile<kHeadDim, true, kPool>::kSlotBytes];
  std::byte values[kWarps][PageTile<kHeadDim, false, kPool>::kSlotBytes];
  Exchange<kTiles> exchange;
  ColumnOperands<kHeadDim, kTiles> columns[2];  // or one, of few heads

  static std::size_t bytes(int group) {
    return sizeof(Shared) - (group <= kFewHeads ? sizeof(ColumnOperands<kHeadDim, kTiles>) : 0);
  }
};

// Which classes a block's pages have, which are seen at all, and which whole: a bit for each page.
class PageClasses {
 public:
  // Of a lane's page. The whole warp together.
  __device__ PageClasses(std::uint64_t entry, bool whole)
      : seen_(__ballot_sync(kWholeWarp, entry != 0)),
        whole_(__ballot_sync(kWholeWarp, entry != 0 && whole)),
        odd_(__ballot_sync(kWholeWarp, entry & 1)),
        packed_(__ballot_sync(kWholeWarp, entry & 2)),
        unlike_(__ballot_sync(kWholeWarp, isUnlikeNext(entry))) {}

  __device__ static std::uint32_t bitOf(int page) { return 1u << page; }

  __device__ bool isSeen(std::uint32_t bit) const { return seen_ & bit; }
  __device__ bool isWhole(std::uint32_t bit) const { return whole_ & bit; }
  __device__ bool isAnySeenFrom(int page) const { return seen_ >> page != 0; }
  __device__ bool isInt8(std::uint32_t bit) const { return odd_ & ~packed_ & bit; }
  // Whether a round's pages from `first` on are all seen and of the same class.
  __device__ bool areAlike(std::uint32_t first) const {
    return (unlike_ & first * ((1u << kRoundPages) - 1)) == 0;
  }

  // Calls body(tile) with the PageTile of a page's class.
  template <int kHeadDim, bool kKeys, class Body>
  __device__ void withTile(std::uint32_t bit, const Body& body) const {
    static_assert(static_cast<int>(PrecisionClass::bf16) == 0 &&
                  static_cast<int>(PrecisionClass::int8) == 1 &&
                  static_cast<int>(PrecisionClass::int4) == 2 && static_cast<int>(PrecisionClass::int2) == 3);
    if (packed_ & bit) {
      if (odd_ & bit) {
        body(PageTile<kHeadDim, kKeys, PrecisionClass::int2>());
      } else {
        body(PageTile<kHeadDim, kKeys, PrecisionClass::int4>());
      }
    } else if (odd_ & bit) {
      body(PageTile<kHeadDim, kKeys, PrecisionClass::int8>());
    } else {
      body(PageTile<kHeadDim, kKeys, PrecisionClass::bf16>());
    }
  }

 private:
  // Whether a page is not seen, or is of another class than the next of its round.
  __device__ static bool isUnlikeNext(std::uint64_t entry) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const auto ofThis = static_cast<std::uint32_t>(entry & 3),
               ofNext = __shfl_sync(kWholeWarp, ofThis, lane + 1);
    return entry == 0 || (ofThis != ofNext && lane % kRoundPages != kRoundPages - 1);
  }

  std::uint32_t seen_, whole_, odd_, packed_, unlike_;
};

}  // namespace tandem::cuda::decode
