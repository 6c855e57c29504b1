#pragma once

// The inner step of attention, one implementation per instruction set: a tile of queries meets one page of
// one KV head. Every query's arithmetic is independent of the others in its tile, so how queries are grouped
// changes no bit.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/bf16.h"
#include "cpu/attention/prefetch.h"
#include "cpu/isa.h"
#include "kv/page-format.h"

namespace tandem::cpu {

// Queries in a tile at most: one AMX tile of rows, and few enough that their sums stay in L1.
inline constexpr int kTileQueries = 16;

// Queries of a block at most. A page is loaded (and its codes expanded) once for all tiles of a block, so its
// bytes move from the outer caches once per this many queries; more would push the block's own sums out of
// L2.
inline constexpr int kBlockQueries = 4 * kTileQueries;

// A query's sum of probabilities is kept in this many lanes until the end.
inline constexpr int kSumLanes = 16;

// Score of a query that has seen nothing. Finite, so that the first real score gives the factor 0 and not
// NaN.
inline constexpr float kNothingSeen = -1e30f;

// From a query's whole numbers to the next one's: a constant, so that the inner loop needs no addresses of
// its own for each.
inline constexpr int kNumbersStride = 256;

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
  // The queries again, as whole numbers: q = number * unit. Null where no page is attended to by its codes.
  const std::int16_t* numbers = nullptr;  // [queries, kNumbersStride], zeros behind headDim up to stride
  const float* units = nullptr;           // [queries]
};

// One head block of a page, in the layout of kv/page-format.h, with its elements as bf16: what the codes of a
// packed class stand for is (code - (levels - 1) / 2). `visible[i]` has bit t set where query i sees token t.
// Tokens that nobody sees must still be finite.
struct PageTile {
  const bf16* keys = nullptr;
  const bf16* values = nullptr;
  const float* keyScales = nullptr;     // [kPageTokens], or null: 1
  const float* keyOffsets = nullptr;    // [queries], added to a query's dot products, or null: 0
  const float* valueScales = nullptr;   // [kPageTokens], or null: 1
  const float* valueMiddles = nullptr;  // [kPageTokens], added to all channels of a token, or null: 0
  const std::uint32_t* visible = nullptr;
};

// The same block as it lies in a page; one of bf16 has no scales.
struct PageCodes {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  const std::byte* keyScales = nullptr;
  const std::byte* valueScales = nullptr;
  const std::uint32_t* visible = nullptr;
  // Where the first tile of a block writes int8 codes down as int16, for itself and those behind it:
  // [2 * kPageTokens * headDim]. Null where a page meets one tile only.
  std::int16_t* unpacked = nullptr;
  bool isUnpacked = false;

  // To the next KV head.
  void advance(std::size_t headBytes) {
    for (const std::byte** part : {&keys, &values, &keyScales, &valueScales}) *part += headBytes;
    isUnpacked = false;
  }
};

// Queries as whole numbers of 15 bits and a sign, the largest of each 32767: number = q / unit, rounded.
struct QueryNumbers {
  int queries = 0;
  int stride = 0;
  const bf16* q = nullptr;          // [queries, stride]
  std::int16_t* numbers = nullptr;  // [queries, kNumbersStride]
  float* units = nullptr;           // [queries]
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

// Queries that are turned as they are read, for they meet each page at another distance.
struct TurnedQueries {
  const float* queries = nullptr;  // [rows, heads, headDim], rows rowStride apart; up to kBlockQueries
  std::int64_t rowStride = 0;
  int rows = 0;
  int heads = 0;
  int headDim = 0;
  const float* cosines = nullptr;  // [headDim / 2]
  const float* sines = nullptr;    // [headDim / 2]
  // All of this as whole numbers, where the kernels take them: see QueryNumbers and Turn.
  const std::int16_t* numbers = nullptr;        // [rows, heads, kNumbersStride]
  const float* units = nullptr;                 // [rows, heads]
  const std::int16_t* cosineNumbers = nullptr;  // [headDim / 2]
  const std::int16_t* sineNumbers = nullptr;    // [headDim / 2]

  const float* query(int index) const {
    return queries + index / heads * rowStride + std::int64_t{index % heads} * headDim;
  }
};

// A packed page's keys lie within middle +- reach * step in each channel. What a query may score with one of
// them at most, times nothing: sum(q * middle + |q| * reach * step) over the channels, of the query turned.
// NaN where it is no number.
struct PageBounds {
  TurnedQueries of;
  const bf16* steps = nullptr;    // [headDim]
  const bf16* middles = nullptr;  // [headDim]
  float reach = 0;                // the highest level
  float* bounds = nullptr;        // [rows, heads]
};

// What each query does score with the best key of a packed page, times nothing. NaN where it is no number.
struct PageScores {
  TurnedQueries of;
  int bits = 0;                     // of a code
  const std::byte* keys = nullptr;  // codes
  const bf16* steps = nullptr;      // [headDim]
  const bf16* middles = nullptr;    // [headDim]
  float* scores = nullptr;          // [rows, heads], and room for three more
};

// `next` is fetched meanwhile.
using AttendPage = void (*)(const QueryTile& tile, const PageTile& page, Prefetch& next);

// Up to pagesTogether(class) neighbouring pages. As many `next`, one is fetched with each page.
using AttendCodes = void (*)(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next);

// Two neighbouring pages of int4 and four of int2 have one softmax together: a query's sums are read and
// written once for them, and what makes bytes of queries and probabilities waits less. Of more, or of two of
// int8, the first would have left L1 before they are read, with those that are fetched meanwhile.
inline constexpr int kMostTogether = 4;
constexpr int pagesTogether(PrecisionClass precision) {
  return isPacked(precision) ? 8 / bitsOf(precision) : 1;
}

// Pages that have codes are attended to by these, in products of whole numbers, or their elements are written
// down as bf16. Which of them follows from the instruction set alone: their arithmetic differs.
struct AttentionKernels {
  AttendPage attendPage;  // of bf16 elements
  void (*boundPage)(const PageBounds& page);
  // Null on instruction sets that find what a page scores by attending to it without its values.
  void (*scorePage)(const PageScores& page) = nullptr;

  // Products of whole numbers. Null on instruction sets that write elements down.
  void (*quantizeQueries)(const QueryNumbers& numbers) = nullptr;
  std::array<AttendCodes, kPrecisionClasses.size()> attendCodes = {};  // by class of elements; of bf16 null

  // Elements written down; null on instruction sets that need none. int8 codes to bf16, one to one. count: a
  // multiple of 128
  void (*expandCodes)(const std::int8_t* codes, bf16* out, std::size_t count, Prefetch& next) = nullptr;
  // A packed tile of int4 or int2 to bf16, in the order of bf16 pages. columns: of values headDim / 16; of
  // keys 0
  void (*unpackCodes)(int bits, const std::byte* codes, int headDim, int columns, bf16* out,
                      Prefetch& next) = nullptr;
  void (*foldQueries)(const QueryFold& fold) = nullptr;
};

// What a code of a packed class stands for, before step and middle.
constexpr float levelOf(int bits, int code) {
  return static_cast<float>(code) - static_cast<float>((1 << bits) - 1) / 2;
}

AttentionKernels attentionKernels(Isa isa);

extern const AttentionKernels kPortableAttention;
extern const AttentionKernels kAvx2Attention;
extern const AttentionKernels kAvxVnniAttention;
extern const AttentionKernels kAvx512VnniAttention;
extern const AttentionKernels kAvx512Attention;
extern const AttentionKernels kAmxAttention;

}  // namespace tandem::cpu
