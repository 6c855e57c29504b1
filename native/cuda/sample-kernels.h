#pragma once

// The kernels of DeviceSampler (sample.h). A row of logits is shared by several blocks; the one that comes
// last finishes what they did for the row. A kernel works on the rows that a list names, so that a batch may
// mix requests of all kinds.
//
// A token's weight is exp((logit - highest) / temperature) in units of 2^-44. The weights are whole numbers,
// so that their sums are exact and the same however a row is divided; what is below one unit cannot be drawn.

#include <cstddef>
#include <cstdint>

#include "cuda/stream.h"

namespace tandem::cuda {

inline constexpr int kSamplePart = 4096;  // logits of a block
inline constexpr int kMaxSampleParts = 64;
inline constexpr int kMaxSampleVocab = kMaxSampleParts * kSamplePart;
inline constexpr int kMaxBest = 64;  // tokens that are kept in a list, best first
inline constexpr int kWeightBits = 44;
inline constexpr int kSearchBins = 2048;

// A mask has a bit for each token, the lowest of a word first.
constexpr int sampleMaskWords(int vocab) { return (vocab + 31) / 32; }

constexpr int samplePartsOf(int vocab) { return (vocab + kSamplePart - 1) / kSamplePart; }

// A row's changes of logits: its tokens of a kind are [begin, end) of the step's.
struct AdjustmentRange {
  std::uint32_t seen, bias, suppressed, end;  // each kind ends where the next one begins
};

// In the place of the token of an adjustment that is none.
inline constexpr std::int32_t kUnknownToken = -1;

struct Adjustment {
  std::int32_t token;
  float value;  // times generated, or the bias
};

// What is asked of a row. Fractions of 2^64 are exact where their float is.
struct SampleRow {
  std::uint64_t uniform = 0;  // the number to be drawn with, of 2^64
  std::uint64_t topP = 0;     // of 2^64; 0: no limit
  std::uint32_t topK = 0;     // 0: no limit
  float minP = 0;             // to be added to the highest logit for the lowest; minus infinity: no limit
  float scale = 0;            // 1 / temperature
  float repetition = 1;
  float frequency = 0;
  float presence = 0;
  AdjustmentRange adjustments = {};
  std::int32_t carried = -1;  // the row of the call before whose token was seen too; -1: none
  std::int32_t mask = -1;     // of the tokens that may be drawn, among the step's; -1: all may
  std::int32_t best = 0;      // tokens to be reported with their logits
  std::int32_t target = -1;   // the token whose logit is wanted; -1: the drawn one
};

// The worst token that may be drawn: the last of the first `equals` whose logit has this order.
struct SampleLimit {
  std::uint32_t order;
  std::uint32_t equals;
};

// The limit's search, between its digits.
struct SampleSearch {
  std::uint64_t left;    // of count or weight, in what has the prefix
  std::uint32_t prefix;  // the digits of its order that are known
};

struct BestToken {
  std::int32_t token;
  float logit;
};

// All on the device.
struct SampleStep {
  const float* logits = nullptr;  // [rows, vocab]
  int vocab = 0;
  const SampleRow* rows = nullptr;
  const Adjustment* adjustments = nullptr;
  const std::uint32_t* masks = nullptr;  // [masks, sampleMaskWords(vocab)]

  std::int32_t* tokens = nullptr;   // [rows] argmax's, below 0 where none can be chosen; then the drawn ones
  float* highest = nullptr;         // [rows] argmax's
  std::uint64_t* totals = nullptr;  // [rows] the sum of weights at temperature 1
  BestToken* best = nullptr;        // [rows, bestStride]
  int bestStride = 0;
  float* wanted = nullptr;  // [rows] logits of the tokens asked for, before adjustment

  std::uint32_t* arrived = nullptr;   // [rows] zeros
  std::uint64_t* bins = nullptr;      // [rows, kSearchBins] zeros
  std::uint64_t* partBest = nullptr;  // [rows, parts, kMaxBest]
  std::uint64_t* partSums = nullptr;  // [rows, parts]
  std::uint32_t* partEquals = nullptr;
  SampleLimit* limits = nullptr;     // [rows]
  SampleSearch* searches = nullptr;  // [rows]
  float* unadjusted = nullptr;       // [adjustments]

  int parts() const { return samplePartsOf(vocab); }
};

struct SampleRows {
  const std::int32_t* of = nullptr;  // [count]
  int count = 0;
};

// Counts, among a row's tokens seen in `adjustments`, the step's, the one that the call before drew in its
// row `carried`, which still stands in `tokens`. The last of them is `kUnknownToken`, counted once: it
// becomes that token if no other is.
void countCarried(const SampleStep& step, Adjustment* adjustments, const SampleRows& rows, Stream stream);

// Penalties, bias and suppressed tokens, in this order, in `logits`, the step's. Keeps what was there.
void adjustLogits(const SampleStep& step, float* logits, const SampleRows& rows, Stream stream);

// Takes all but what a row's mask allows out of `logits`, the step's. After `adjustLogits`.
void keepAllowed(const SampleStep& step, float* logits, const SampleRows& rows, Stream stream);

// `totals`, and each row's `best` tokens.
void measureRows(const SampleStep& step, const SampleRows& rows, Stream stream);

// Draws where top-k is on and at most kMaxBest.
void drawAmongBest(const SampleStep& step, const SampleRows& rows, Stream stream);

// Finds `limits` for top-k; then for top-p, within them where top-k is on too.
void limitCount(const SampleStep& step, const SampleRows& rows, Stream stream);
void limitWeight(const SampleStep& step, const SampleRows& rows, Stream stream);

// Draws within `limits` (where there are any) and min-p.
void drawWithinLimits(const SampleStep& step, const SampleRows& rows, Stream stream);

// `wanted`. After drawing.
void readLogits(const SampleStep& step, const SampleRows& rows, Stream stream);

}  // namespace tandem::cuda
