#pragma once

// The inner step of attention, one implementation per instruction set: a tile of queries meets one page of
// one KV head. Every query's arithmetic is independent of the others in its tile, so how queries are grouped
// changes no bit.

#include <array>
#include <cstddef>
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
  // [queries, headDim], weighted by 2^(score - maximum), not yet divided by the sum. Null: only maximum and
  // sum are wanted, and values are not read.
  float* out = nullptr;
};

// One head block of a page, in the layout of kv/page-format.h: its elements as bf16, or the codes of a class,
// which stand for (code - (levels - 1) / 2) where the class is packed. `visible[i]` has bit t set where query
// i sees token t. Tokens that nobody sees must still be finite.
struct PageTile {
  const bf16* keys = nullptr;
  const bf16* values = nullptr;
  const std::byte* keyCodes = nullptr;
  const std::byte* valueCodes = nullptr;
  const float* keyScales = nullptr;     // [kPageTokens], or null: 1
  const float* keyOffsets = nullptr;    // [queries], added to a query's dot products, or null: 0
  const float* valueScales = nullptr;   // [kPageTokens], or null: 1
  const float* valueMiddles = nullptr;  // [kPageTokens], added to all channels of a token, or null: 0
  const std::uint32_t* visible = nullptr;
};

// The scales of a packed page's keys are per channel, so they meet the query instead of the keys:
// folded = q * steps, rounded to bf16, and offsets = q . middles. Then q . key = folded . codes + offset.
struct QueryFold {
  int queries = 0;
  int headDim = 0;
  int stride = 0;
  const bf16* q = nullptr;        // [queries, stride]
  const bf16* steps = nullptr;    // [headDim]
  const bf16* middles = nullptr;  // [headDim]
  bf16* folded = nullptr;         // [queries, stride], zeros behind headDim
  float* offsets = nullptr;       // [queries]
};

// A packed page's keys lie within middle +- reach * step in each channel. What a query may score with one of
// them at most, times nothing: sum(q * middle + |q| * reach * step) over the channels, of the query turned.
struct PagePromise {
  const float* q = nullptr;        // [headDim]
  const float* cosines = nullptr;  // [headDim / 2]
  const float* sines = nullptr;    // [headDim / 2]
  const bf16* steps = nullptr;     // [headDim]
  const bf16* middles = nullptr;   // [headDim]
  int headDim = 0;
  float reach = 0;  // the highest level
};

// `next` is fetched meanwhile.
using AttendPage = void (*)(const QueryTile& tile, const PageTile& page, Prefetch& next);

struct AttentionKernels {
  AttendPage attendPage;  // of bf16 elements

  // The same, bit for bit, from codes, by class: for a few queries, which are not worth writing the page's
  // elements down. Null: the elements must be written down.
  std::array<AttendPage, kPrecisionClasses.size()> attendCodes;

  // int8 codes to bf16, one to one. count: a multiple of 128
  void (*expandCodes)(const std::int8_t* codes, bf16* out, std::size_t count, Prefetch& next);

  // A packed tile of int4 or int2 to bf16, in the order of bf16 pages. columns: of values headDim / 16; of
  // keys 0
  void (*unpackCodes)(int bits, const std::byte* codes, int headDim, int columns, bf16* out, Prefetch& next);

  void (*foldQueries)(const QueryFold& fold);

  float (*promiseOfPage)(const PagePromise& promise);
};

// Queries for which `attendCodes` is worth it, at most.
inline constexpr int kFewQueries = 8;

// What a code of a packed class stands for, before step and middle.
constexpr float levelOf(int bits, int code) {
  return static_cast<float>(code) - static_cast<float>((1 << bits) - 1) / 2;
}

AttentionKernels attentionKernels(Isa isa);

extern const AttentionKernels kPortableAttention;
extern const AttentionKernels kAvx2Attention;
extern const AttentionKernels kAvx512Attention;
extern const AttentionKernels kAmxAttention;

}  // namespace tandem::cpu
