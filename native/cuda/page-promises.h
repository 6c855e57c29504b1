#pragma once

// What the kernels of selectPages share: where a row's queries, turns and orders lie, and what order a
// page's promise has.

#include <cstdint>

#include "cuda/kernel.h"
#include "cuda/logit-order.h"
#include "cuda/select-pages.h"

namespace tandem::cuda::promises {

// What is not a number shall be seen, and it has no place in an order.
__device__ inline std::uint32_t promiseOrder(float promise) {
  return promise == promise ? orderOf(promise) : kOrderOfInfinity;
}

__device__ inline std::uint32_t higherOf(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }

__device__ inline std::uint32_t* ordersOf(const SelectPages& problem, unsigned row, int kvHead) {
  return problem.orders +
         (std::int64_t{row} * problem.tables.format.kvHeads + kvHead) * std::int64_t{problem.mostMid};
}

// A row's query heads of a KV head, [group, headDim].
__device__ inline const bf16* queriesOf(const SelectPages& problem, const PartitionedRow& row, int kvHead) {
  const PageFormat& format = problem.tables.format;
  const std::int64_t cols = std::int64_t{problem.heads + 2 * format.kvHeads} * format.headDim;
  return problem.qkv + row.row * cols +
         std::int64_t{kvHead} * (problem.heads / format.kvHeads) * format.headDim;
}

// While pages are chosen, each is looked at as if it stood right before the recent ones.
template <int kHeadDim>
__device__ const float* turnOf(const SelectPages& problem, const PartitionedRow& row, int page) {
  return problem.turns + std::int64_t{row.midEnd - 1 - page} * kHeadDim;
}

}  // namespace tandem::cuda::promises
