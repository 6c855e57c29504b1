#pragma once

// The inner step of attention, one implementation per instruction set: a tile of queries meets one page of
// one KV head. Every query's arithmetic is independent of the others in its tile, so how queries are grouped
// changes no bit.

#include <cstdint>

#include "core/bf16.h"
#include "cpu/attention/prefetch.h"
#include "cpu/isa.h"
#include "kv/page-format.h"

namespace tandem::cpu {

// Queries in a tile at most: one AMX tile of rows, and few enough that their sums stay in L1.
inline constexpr int kTileQueries = 16;

// A query's sum of probabilities is kept in this many lanes until the end.
inline constexpr int kSumLanes = 16;

// Score of a query that has seen nothing. Finite, so that the first real score gives the factor 0 and not
// NaN.
inline constexpr float kNothingSeen = -1e30f;

// The online softmax of up to kTileQueries queries, in base 2. `scale` is log2(e) / sqrt(headDim).
struct QueryTile {
  int queries = 0;
  int headDim = 0;
  int stride = 0;  // of q, in elements: headDim rounded up to 32, zeros behind
  float scale = 0;
  const bf16* q = nullptr;   // [queries, stride]
  float* maximum = nullptr;  // [queries]
  float* sum = nullptr;      // [queries, kSumLanes]
  float* out = nullptr;  // [queries, headDim], weighted by 2^(score - maximum), not yet divided by the sum
};

// One head block of a page as bf16, in the layout of kv/page-format.h. `visible[i]` has bit t set where query
// i sees token t. Tokens that nobody sees must still be finite.
struct PageTile {
  const bf16* keys = nullptr;
  const bf16* values = nullptr;
  const float* keyScales = nullptr;    // [kPageTokens], or null: 1
  const float* valueScales = nullptr;  // [kPageTokens], or null: 1
  const std::uint32_t* visible = nullptr;
};

struct AttentionKernels {
  // `next` is fetched meanwhile.
  void (*attendPage)(const QueryTile& tile, const PageTile& page, Prefetch& next);

  // codes to bf16, one to one. count: a multiple of 128
  void (*expandCodes)(const std::int8_t* codes, bf16* out, std::size_t count, Prefetch& next);
};

AttentionKernels attentionKernels(Isa isa);

extern const AttentionKernels kPortableAttention;
extern const AttentionKernels kAvx2Attention;
extern const AttentionKernels kAvx512Attention;
extern const AttentionKernels kAmxAttention;

}  // namespace tandem::cpu
