#pragma once

// The best of many by the digits of their orders, without sorting: a block counts how many have each value of
// a digit, from the highest one down, until it knows the order of the last that is kept.

#include <cstdint>

#include "cuda/block-sums.h"
#include "cuda/kernel.h"

namespace tandem::cuda::best {

// Eight bits at a time, a thread of the block for each of their values.
inline constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
inline constexpr int kKeepingThreads = kDigits;

// Of the best the last one's order, and how many of that order are among them.
struct Limit {
  std::uint32_t order;
  std::uint32_t equals;
};

struct Search {
  std::uint32_t counts[kDigits];
  std::uint32_t digit, left;
};

// Of the `count` highest of orderAt(i), i < size, count <= size. The whole block together.
template <class OrderAt>
__device__ Limit limitOf(const OrderAt& orderAt, int size, int count, Search& search) {
  const int thread = static_cast<int>(threadIdx.x);
  std::uint32_t known = 0;
  auto left = static_cast<std::uint32_t>(count);
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    const bool isFirst = shift == 32 - kDigitBits;
    search.counts[thread] = 0;
    __syncthreads();
    for (int i = thread; i < size; i += kKeepingThreads) {
      const std::uint32_t order = orderAt(i);
      if (isFirst || order >> (shift + kDigitBits) == known) {
        atomicAdd(&search.counts[order >> shift & (kDigits - 1)], 1u);
      }
    }
    __syncthreads();
    // Thread t has the t-th highest value of the digit.
    const auto digit = static_cast<std::uint32_t>(kDigits - 1 - thread);
    const std::uint32_t mine = search.counts[digit];
    const auto before = static_cast<std::uint32_t>(blockSums<kKeepingThreads>(mine).before);
    if (before < left && left <= before + mine) {
      search.digit = digit;
      search.left = left - before;
    }
    __syncthreads();
    known = known << kDigitBits | search.digit;
    left = search.left;
  }
  return {known, left};
}

// Writes valueOf(i) of the `count` highest of orderAt(i), i < size, one after another, in ascending i. `to`
// may be where valueOf reads, since no value moves up. The whole block together.
template <class OrderAt, class ValueOf>
__device__ void keepBest(const OrderAt& orderAt, int size, int count, Search& search, std::int32_t* to,
                         const ValueOf& valueOf) {
  const Limit limit = limitOf(orderAt, size, count, search);
  std::uint32_t higher = 0, equals = 0;  // before the thread
  for (int first = 0; first < size; first += kKeepingThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const std::uint32_t order = i < size ? orderAt(i) : 0;
    const bool isHigher = i < size && order > limit.order, isEqual = i < size && order == limit.order;
    const std::int32_t value = i < size ? valueOf(i) : 0;
    const BlockSums sums = blockSums<kKeepingThreads>(std::uint64_t{isHigher} << 32 | std::uint64_t{isEqual});
    const std::uint32_t higherBefore = higher + static_cast<std::uint32_t>(sums.before >> 32);
    const std::uint32_t equalsBefore = equals + static_cast<std::uint32_t>(sums.before);
    if (isHigher || (isEqual && equalsBefore < limit.equals)) {
      to[higherBefore + (equalsBefore < limit.equals ? equalsBefore : limit.equals)] = value;
    }
    higher += static_cast<std::uint32_t>(sums.all >> 32);
    equals += static_cast<std::uint32_t>(sums.all);
  }
  __syncthreads();
}

}  // namespace tandem::cuda::best
