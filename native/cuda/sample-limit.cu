// Finds the worst token that top-k or top-p keeps, without sorting. The order of a logit (logit-order.h) has
// 32 bits: digits of 11, 11 and 10. For each, a pass adds up how many tokens, or how much weight, have each
// value of the digit behind the digits known so far, and the row's last block finds the value in which the
// limit lies. So each logit is read three times, 12 bytes, whatever the logits are; the first pass of top-p
// also computes every weight, about 25 instructions.

#include "cuda/block-sums.h"
#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/sample-kernels.h"
#include "cuda/sample-part.h"
#include "cuda/sample-weight.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = kSampleThreads;
constexpr int kBinsOfThread = kSearchBins / kThreads;

enum class Measure { count, weight };

struct Digit {
  int bits, shift;

  __device__ std::uint32_t of(std::uint32_t order) const { return order >> shift & ((1u << bits) - 1); }
  __device__ std::uint32_t before(std::uint32_t order) const {
    return shift + bits == 32 ? 0 : order >> (shift + bits);
  }
};
constexpr Digit kDigits[] = {{11, 21}, {11, 10}, {10, 0}};
static_assert(kSearchBins == 1 << 11);

// A sum of 64 bits in two words of shared memory, for which alone there are fast atomic additions. The carry
// goes with the addition that overflows, so that the sum is exact.
__device__ void addInTwo(std::uint32_t* low, std::uint32_t* high, std::uint64_t value) {
  const auto valueLow = static_cast<std::uint32_t>(value);
  const std::uint32_t before = atomicAdd(low, valueLow);
  const std::uint32_t up = static_cast<std::uint32_t>(value >> 32) + (before + valueLow < before ? 1u : 0u);
  if (up != 0) atomicAdd(high, up);
}

template <Measure kMeasure, int kDigit>
__global__ void __launch_bounds__(kThreads) searchDigit(const SampleStep step, const SampleRows rows) {
  constexpr bool kWeighs = kMeasure == Measure::weight;
  constexpr Digit kNow = kDigits[kDigit];
  constexpr bool kFirst = kDigit == 0, kLast = kNow.shift == 0;
  __shared__ std::uint32_t low[kSearchBins], high[kWeighs ? kSearchBins : 1];

  const int row = rows.of[blockIdx.y];
  if (step.tokens[row] < 0) return;
  const SampleRow& wants = step.rows[row];
  const float highest = step.highest[row], scale = wants.scale;
  const std::uint32_t prefix = kFirst ? 0 : step.searches[row].prefix;
  // Top-p is among what top-k keeps; the logits that are equal to top-k's limit are added as one below.
  const SampleLimit outer = kWeighs && wants.topK != 0 ? step.limits[row] : SampleLimit{0, 0};

  const SamplePart part(step.logits + row * static_cast<std::int64_t>(step.vocab), step.vocab);
  for (int bin = static_cast<int>(threadIdx.x); bin < kSearchBins; bin += kThreads) {
    low[bin] = 0;
    if (kWeighs) high[bin] = 0;
  }
  __syncthreads();
#pragma unroll
  for (const std::uint32_t order : part.orders) {
    if (kNow.before(order) != prefix || order <= outer.order) continue;
    if (kWeighs) {
      const std::uint64_t weight = weightOf(logitOf(order), highest, scale);
      if (weight != 0) addInTwo(&low[kNow.of(order)], &high[kNow.of(order)], weight);
    } else {
      atomicAdd(&low[kNow.of(order)], 1u);
    }
  }
  __syncthreads();
  std::uint64_t* bins = step.bins + row * std::int64_t{kSearchBins};
  for (int bin = static_cast<int>(threadIdx.x); bin < kSearchBins; bin += kThreads) {
    const std::uint64_t sum = low[bin] | (kWeighs ? std::uint64_t{high[bin]} << 32 : 0);
    if (sum != 0) addTo(&bins[bin], sum);
  }
  if (!comesLast(step.arrived + row, gridDim.x)) return;

  // Thread t has the t-th highest values of the digit.
  const int first = kSearchBins - 1 - static_cast<int>(threadIdx.x) * kBinsOfThread;
  const auto outerDigit = static_cast<int>(kNow.of(outer.order));
  const bool outerHere = outer.equals != 0 && kNow.before(outer.order) == prefix;
  std::uint64_t sums[kBinsOfThread], mine = 0;
#pragma unroll
  for (int i = 0; i < kBinsOfThread; ++i) {
    sums[i] = bins[first - i];
    bins[first - i] = 0;
    if (outerHere && first - i == outerDigit) {
      sums[i] += outer.equals * weightOf(logitOf(outer.order), highest, scale);
    }
    mine += sums[i];
  }
  const BlockSums all = blockSums<kThreads>(mine);
  std::uint64_t left =
      kFirst ? (kWeighs ? fractionUp(all.all, wants.topP) : wants.topK) : step.searches[row].left;
  __syncthreads();  // all have read what one is to write
  if (all.before >= left || all.before + mine < left) return;
  left -= all.before;
  std::uint32_t digit = 0;
  bool found = false;
#pragma unroll
  for (int i = 0; i < kBinsOfThread; ++i) {
    if (found) continue;
    found = left <= sums[i];
    if (found) digit = static_cast<std::uint32_t>(first - i);
    if (!found) left -= sums[i];
  }
  const std::uint32_t known = prefix << kNow.bits | digit;
  if (!kLast) {
    step.searches[row] = {left, known};
  } else if (kWeighs) {
    const std::uint64_t weight = weightOf(logitOf(known), highest, scale);
    step.limits[row] = {known, static_cast<std::uint32_t>((left + weight - 1) / weight)};
  } else {
    step.limits[row] = {known, static_cast<std::uint32_t>(left)};
  }
}

template <Measure kMeasure>
void search(const char* name, const SampleStep& step, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  const dim3 grid(static_cast<unsigned>(step.parts()), static_cast<unsigned>(rows.count));
  launch(name, searchDigit<kMeasure, 0>, grid, kThreads, stream, step, rows);
  launch(name, searchDigit<kMeasure, 1>, grid, kThreads, stream, step, rows);
  launch(name, searchDigit<kMeasure, 2>, grid, kThreads, stream, step, rows);
}

}  // namespace

void limitCount(const SampleStep& step, const SampleRows& rows, Stream stream) {
  search<Measure::count>("limitCount", step, rows, stream);
}

void limitWeight(const SampleStep& step, const SampleRows& rows, Stream stream) {
  search<Measure::weight>("limitWeight", step, rows, stream);
}

}  // namespace tandem::cuda
