// Draws a token within a limit: the one at which the sum of weights, in the order of tokens, passes the drawn
// part of the whole. Reads each logit once, 4 bytes, and computes its weight, about 25 instructions; the
// row's last block then reads the part again in which the token lies.

#include "cuda/argmax.h"
#include "cuda/block-sums.h"
#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/sample-kernels.h"
#include "cuda/sample-part.h"
#include "cuda/sample-weight.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = kSampleThreads;
constexpr int kHeld = SamplePart::kHeld;
static_assert(kMaxSampleParts <= kThreads);

__device__ SampleLimit limitOf(const SampleStep& step, int row) {
  const SampleRow& wants = step.rows[row];
  const SampleLimit limit =
      wants.topK != 0 || wants.topP != 0 ? step.limits[row] : SampleLimit{kOrderOfMinusInfinity, 0};
  const std::uint32_t floor = orderOf(step.highest[row] + wants.minP);
  return floor > limit.order ? SampleLimit{floor, ~0u} : limit;
}

// Five blocks an SM: for a sixth the compiler would spill.
__global__ void __launch_bounds__(kThreads, 5) draw(const SampleStep step, const SampleRows rows) {
  const int row = rows.of[blockIdx.y], parts = static_cast<int>(gridDim.x);
  if (step.tokens[row] < 0) return;
  const SampleRow& wants = step.rows[row];
  const float highest = step.highest[row], scale = wants.scale;
  const SampleLimit limit = limitOf(step, row);
  const float* logits = step.logits + row * static_cast<std::int64_t>(step.vocab);
  std::uint64_t* partSums = step.partSums + row * static_cast<std::int64_t>(parts);
  std::uint32_t* partEquals = step.partEquals + row * static_cast<std::int64_t>(parts);
  const int mine = static_cast<int>(threadIdx.x);

  // The weight that is better than the limit, and the number of tokens that are equal to it.
  std::uint64_t sum = 0, equals = 0;
  const SamplePart part(logits, step.vocab);
#pragma unroll
  for (const std::uint32_t order : part.orders) {
    if (order > limit.order) sum += weightOf(logitOf(order), highest, scale);
    equals += order == limit.order ? 1 : 0;
  }
  sum = blockSums<kThreads>(sum).all;
  equals = blockSums<kThreads>(equals).all;
  if (mine == 0) {
    partSums[blockIdx.x] = sum;
    partEquals[blockIdx.x] = static_cast<std::uint32_t>(equals);
  }
  if (!comesLast(step.arrived + row, gridDim.x)) return;

  // Of the equals the first ones are in: as many of each part as those before leave.
  const std::uint64_t equalWeight = weightOf(logitOf(limit.order), highest, scale);
  const auto keptOf = [&](std::uint64_t count, std::uint64_t before) -> std::uint64_t {
    const std::uint64_t left = limit.equals > before ? limit.equals - before : 0;
    return count < left ? count : left;
  };
  equals = mine < parts ? partEquals[mine] : 0;
  const std::uint64_t equalsBefore = blockSums<kThreads>(equals).before;
  const std::uint64_t ofPart =
      (mine < parts ? partSums[mine] : 0) + keptOf(equals, equalsBefore) * equalWeight;
  const BlockSums ofRow = blockSums<kThreads>(ofPart);
  if (ofRow.all == 0) {
    if (mine == 0) step.tokens[row] = kNoLogits;
    return;
  }
  const std::uint64_t drawn = fractionOf(ofRow.all, wants.uniform);
  __shared__ struct {
    std::uint64_t left, equalsBefore;
    int part;
  } found;
  if (ofRow.before <= drawn && drawn < ofRow.before + ofPart) {
    found = {drawn - ofRow.before, equalsBefore, mine};
  }
  __syncthreads();

  // The same within the part, a run of neighbours a thread.
  const int first = found.part * kSamplePart + mine * kHeld;
  const int count = first + kHeld <= step.vocab ? kHeld : step.vocab - first;
  equals = 0;
  for (int i = 0; i < count; ++i) equals += orderOf(logits[first + i]) == limit.order ? 1 : 0;
  const std::uint64_t firstRank = found.equalsBefore + blockSums<kThreads>(equals).before;
  // Calls use(token, weight) for each until it says that it has what it wants.
  const auto walk = [&](auto use) {
    std::uint64_t rank = firstRank;
    for (int token = first; token < first + count; ++token) {
      const std::uint32_t order = orderOf(logits[token]);
      std::uint64_t weight = 0;
      if (order > limit.order) weight = weightOf(logits[token], highest, scale);
      if (order == limit.order && rank++ < limit.equals) weight = equalWeight;
      if (use(token, weight)) return;
    }
  };
  std::uint64_t ofThread = 0;
  walk([&](int, std::uint64_t weight) {
    ofThread += weight;
    return false;
  });
  std::uint64_t passed = blockSums<kThreads>(ofThread).before;
  if (found.left < passed || found.left >= passed + ofThread) return;
  walk([&](int token, std::uint64_t weight) {
    passed += weight;
    if (passed <= found.left) return false;
    step.tokens[row] = token;
    return true;
  });
}

}  // namespace

void drawWithinLimits(const SampleStep& step, const SampleRows& rows, Stream stream) {
  if (rows.count == 0) return;
  const dim3 grid(static_cast<unsigned>(step.parts()), static_cast<unsigned>(rows.count));
  launch("drawWithinLimits", draw, grid, kThreads, stream, step, rows);
}

}  // namespace tandem::cuda
