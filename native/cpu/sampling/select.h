#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/sampling/row-kernels.h"

namespace tandem::cpu {

struct Candidate {
  float value;
  std::int32_t token;
};

// The order of preference: higher values first, ties by lower token.
inline bool better(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// The k best values of a row that holds no NaN, best first; all of them if k is larger. The vocabulary is
// never sorted: one pass keeps a few times k candidates above a rising threshold.
void selectBest(const RowKernels& kernels, std::span<const float> row, std::size_t k,
                std::vector<Candidate>& best);

}  // namespace tandem::cpu
