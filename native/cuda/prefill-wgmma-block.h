#pragma once

// What the warps of a block of prefill-wgmma.cu share: which tile they attend for, and their shared memory.
//
// A step's keys lie in shared memory as the rows of a K-major operand, 64 channels in 128 bytes, its values
// as rows of channels with 64 tokens in 128 bytes. Tokens and channels are permuted, so that slots are those
// of attention-warp.h and 16 bytes of a page are one thread's:
//
//   score column 32 page + 8 j + c      token 4 c + j of the page
//   key slots 16 depth + 8 half + 2 i   channels 16 depth + 2 half + 4 i and the next, of queries as of keys
//   out column 32 block + 8 i + c       channel 32 block + 4 c + i
//   value slots 32 page + 16 m + 8 half + 2 i   tokens 8 i + 4 half + 2 m and the next

#include <cstdint>

#include "cuda/attention-order.h"
#include "cuda/bulk-copies.h"
#include "cuda/kernel.h"
#include "cuda/prefill-kernels.h"
#include "cuda/ring-turn.h"

namespace tandem::cuda::wgmma_prefill {

inline constexpr int kAttending = 256, kBringing = 128;  // threads
inline constexpr int kThreads = kAttending + kBringing;
inline constexpr int kStages = 4;

// Of a page in a stage.
inline constexpr std::uint16_t kScaled = 1;    // it has scales of tokens
inline constexpr std::uint16_t kNotThere = 2;  // nobody sees it

// Aligned so that a thread's two neighbours come at once.
struct alignas(16) TokenScales {
  // By score column. Those of keys are products' already.
  float keys[kStepTokens];
  float values[kStepTokens];
  std::uint16_t traits[2];  // of the pages
};

template <int kHeadDim>
struct Layout {
  static constexpr int kHalves = (kHeadDim + 63) / 64;  // of keys: 64 channels in 128 bytes
  static constexpr int kHalfBytes = kStepTokens * 128;
  static constexpr int kKeyBytes = kHalves * kHalfBytes;
  static constexpr int kValueBytes = kHeadDim * 2 * kStepTokens;
  static constexpr int kStageBytes = kKeyBytes + kValueBytes;
  static constexpr int kQueryHalfBytes = kPrefillRows * 128;
  static constexpr int kQueryBytes = kHalves * kQueryHalfBytes;
  static constexpr int kTotalBytes = kPrefillRows * kHeadDim * static_cast<int>(sizeof(float));

  struct Barriers {
    Barrier brought[kStages], used[kStages];
  };
  // Behind all operands, which are aligned.
  struct Rest {
    TokenScales scales[kStages];
    Barriers barriers;
  };
  static constexpr int kRestBegin = kStages * kStageBytes + kQueryBytes + kTotalBytes;
  static constexpr int kBytes = kRestBegin + static_cast<int>(sizeof(Rest));

  std::byte* begin;

  __device__ std::byte* keys(int stage) const { return begin + stage * kStageBytes; }
  __device__ std::byte* values(int stage) const { return keys(stage) + kKeyBytes; }
  __device__ std::byte* queries() const { return begin + kStages * kStageBytes; }
  // Four elements of a thread, the sums of earlier runs.
  __device__ float4& total(int index) const {
    return reinterpret_cast<float4*>(queries() + kQueryBytes)[index * kAttending + threadIdx.x];
  }
  __device__ Rest& rest() const { return *reinterpret_cast<Rest*>(begin + kRestBegin); }
  __device__ TokenScales& scales(int stage) const { return rest().scales[stage]; }
  __device__ Barriers& barriers() const { return rest().barriers; }
};

// Tokens that a row sees.
struct Seen {
  int begin, end;
};

template <int kHeadDim>
struct Block {
  const PrefillAttention& problem;
  const QueryTile tile;
  const int kvHead, group, queries;
  const Layout<kHeadDim> memory;

  __device__ explicit Block(const PrefillAttention& problem)
      : problem(problem),
        // Later tiles of a prompt see more, so they come first.
        tile(problem.tiles[gridDim.x - 1 - blockIdx.x]),
        kvHead(static_cast<int>(blockIdx.y)),
        group(problem.heads / problem.tables.format.kvHeads),
        queries(tile.count * group),
        memory{dynamicShared()} {}

  // Of qkv and of out.
  __device__ int rowOf(int query) const { return tile.row + query / group; }
  __device__ Seen seenBy(int query) const {
    const int position = tile.position + min(query, queries - 1) / group;
    return {problem.window > 0 ? max(0, position + 1 - problem.window) : 0, position + 1};
  }
  __device__ Seen seen() const { return {seenBy(0).begin, seenBy(queries - 1).end}; }
};

}  // namespace tandem::cuda::wgmma_prefill
