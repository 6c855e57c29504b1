#include "cpu/attention/query-numbers-avx512.h"

#include "cpu/attention/whole-numbers-avx512.h"

namespace tandem::cpu {

void quantizeQueriesAvx512(const QueryNumbers& queries) {
  for (int query = 0; query < queries.queries; ++query) {
    const std::size_t row = static_cast<std::size_t>(query) * queries.stride;
    const float largest = largestOf(queries.q + row, queries.stride);
    toNumbers(queries.q + row, queries.stride, numbersPer(largest), queries.numbers + query * kNumbersStride);
    queries.units[query] = largest / kTopNumber;
  }
}

}  // namespace tandem::cpu
