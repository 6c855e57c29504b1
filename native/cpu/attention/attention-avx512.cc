#include <immintrin.h>

#include "cpu/attention/int8-attention-avx512.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/packed-attention-avx512.h"
#include "cpu/attention/page-bounds.inl"
#include "cpu/attention/page-scores-avx512.h"
#include "cpu/attention/query-numbers-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"

namespace tandem::cpu {
namespace {

// Without BF16 a pair's products are two FMAs of float32: elements are widened for all queries of a tile, and
// queries once a page. Probabilities are never rounded.
struct Pairs {
  using Factor = float;  // of queries and probabilities
  using Elements = WidePairs;
  struct Two {
    __m512 first, second;
  };

  class Queries {
   public:
    explicit Queries(const QueryTile& tile) {
      for (int query = 0; query < tile.queries; ++query) {
        const bf16* q = tile.q + static_cast<std::size_t>(query) * tile.stride;
        for (int channel = 0; channel < tile.headDim; channel += 16) {
          const auto* bits = reinterpret_cast<const __m256i*>(q + channel);
          _mm512_store_ps(rows_ + query * kMaxHeadDim + channel, widened(_mm256_loadu_si256(bits)));
        }
      }
    }
    static constexpr std::size_t stride() { return kMaxHeadDim; }
    [[gnu::always_inline]] const float* row(int query) const { return rows_ + stride() * query; }

   private:
    alignas(64) float rows_[kTileQueries * kMaxHeadDim];
  };

  [[gnu::always_inline]] static WidePairs load(const bf16* pairs) {
    return widenedPairs(_mm512_loadu_si512(pairs));
  }
  [[gnu::always_inline]] static Two broadcast(const float* two) {
    return {_mm512_set1_ps(two[0]), _mm512_set1_ps(two[1])};
  }
  [[gnu::always_inline]] static __m512 multiplyAdd(__m512 sum, const WidePairs& elements, const Two& two) {
    return _mm512_fmadd_ps(elements.odd, two.second, _mm512_fmadd_ps(elements.even, two.first, sum));
  }
  [[gnu::always_inline]] static void store(float* to, __m512 p0, __m512 p1) {
    _mm512_store_ps(to, p0);
    _mm512_store_ps(to + 16, p1);
  }
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/attention/exact-pages-avx512.inl"

namespace tandem::cpu {

const AttentionKernels kAvx512VnniAttention = {
    .attendPage = attendPage,
    .boundPage = boundPage,
    .scorePage = scorePageAvx512,
    .quantizeQueries = quantizeQueriesAvx512,
    .attendCodes = {nullptr, attendInt8Avx512, attendInt4Avx512, attendInt2Avx512}};

}  // namespace tandem::cpu
