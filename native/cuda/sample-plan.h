#pragma once

// What a batch of requests asks of the kernels.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cuda/sample-kernels.h"

namespace tandem::cuda {

// The lists of rows that a kernel each works on.
enum class SampleList { carried, adjusted, masked, measured, listed, counted, weighed, drawn };
inline constexpr std::size_t kSampleLists = 8;

struct SamplePlan {
  std::vector<SampleRow> rows;
  std::vector<Adjustment> adjustments;
  std::vector<std::uint32_t> masks;  // [masked rows, sampleMaskWords(vocab)]
  std::array<std::vector<std::int32_t>, kSampleLists>
      lists;  // all empty: the best tokens are all that is wanted

  std::vector<std::int32_t>& of(SampleList list) { return lists[static_cast<std::size_t>(list)]; }
  const std::vector<std::int32_t>& of(SampleList list) const { return lists[static_cast<std::size_t>(list)]; }
  bool onlyGreedy() const;
  // Whether log probabilities are wanted of logits that are changed before the draw.
  bool measuresApart() const;
  int mostBest() const;  // tokens that a row reports
};

// These throw Error if a token lies outside the vocabulary, or a mask does not fit it.
SamplePlan planSamples(std::span<const SampleRequest> requests, int vocab);
SamplePlan planLogprobs(std::span<const std::int32_t> targets, int k, int vocab);

}  // namespace tandem::cuda
