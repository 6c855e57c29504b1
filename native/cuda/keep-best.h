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

// Orders that a thread asks for at once: of many thousands it would else wait for memory one by one. Those
// that are written have their values beside them.
inline constexpr int kCountedAtOnce = 8, kWrittenAtOnce = 2;

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
    for (int first = thread; first < size; first += kCountedAtOnce * kKeepingThreads) {
      const auto place = [&](int k) { return first + k * kKeepingThreads; };
      std::uint32_t orders[kCountedAtOnce];
#pragma unroll
      for (int k = 0; k < kCountedAtOnce; ++k) orders[k] = place(k) < size ? orderAt(place(k)) : 0;
#pragma unroll
      for (int k = 0; k < kCountedAtOnce; ++k) {
        if (place(k) < size && (isFirst || orders[k] >> (shift + kDigitBits) == known)) {
          atomicAdd(&search.counts[orders[k] >> shift & (kDigits - 1)], 1u);
        }
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
  std::uint32_t higher = 0, equals = 0;  // before the thread's
  for (int turn = 0; turn < size; turn += kWrittenAtOnce * kKeepingThreads) {
    // A thread's are neighbours, so that it knows from the sums before it where they go.
    const int first = turn + kWrittenAtOnce * static_cast<int>(threadIdx.x);
    std::uint32_t orders[kWrittenAtOnce];
    std::int32_t values[kWrittenAtOnce];
    std::uint64_t mine = 0;
#pragma unroll
    for (int k = 0; k < kWrittenAtOnce; ++k) {
      const bool isThere = first + k < size;
      orders[k] = isThere ? orderAt(first + k) : 0;
      values[k] = isThere ? valueOf(first + k) : 0;
    }
#pragma unroll
    for (int k = 0; k < kWrittenAtOnce; ++k) {
      if (first + k >= size) continue;
      mine += std::uint64_t{orders[k] > limit.order} << 32 | std::uint64_t{orders[k] == limit.order};
    }
    const BlockSums sums = blockSums<kKeepingThreads>(mine);
    std::uint32_t higherBefore = higher + static_cast<std::uint32_t>(sums.before >> 32);
    std::uint32_t equalsBefore = equals + static_cast<std::uint32_t>(sums.before);
#pragma unroll
    for (int k = 0; k < kWrittenAtOnce; ++k) {
      if (first + k >= size) continue;
      const bool isHigher = orders[k] > limit.order, isEqual = orders[k] == limit.order;
      if (isHigher || (isEqual && equalsBefore < limit.equals)) {
        to[higherBefore + min(equalsBefore, limit.equals)] = values[k];
      }
      higherBefore += isHigher;
      equalsBefore += isEqual;
    }
    higher += static_cast<std::uint32_t>(sums.all >> 32);
    equals += static_cast<std::uint32_t>(sums.all);
  }
  __syncthreads();
}

}  // namespace tandem::cuda::best
