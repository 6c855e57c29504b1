#include <immintrin.h>

#include "cpu/attention/int8-attention-avx512.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/packed-attention-avx512.h"
#include "cpu/attention/page-bounds.inl"
#include "cpu/attention/page-scores-avx512.h"
#include "cpu/attention/probabilities-avx512bf16.h"
#include "cpu/attention/query-numbers-avx512.h"
#include "cpu/attention/whole-numbers-avx512.h"

namespace tandem::cpu {
namespace {

// Everything stays bf16.
struct Pairs {
  using Factor = bf16;  // of queries and probabilities
  using Elements = __m512bh;
  using Two = __m512bh;

  class Queries {
   public:
    explicit Queries(const QueryTile& tile) : q_(tile.q), stride_(tile.stride) {}
    [[gnu::always_inline]] std::size_t stride() const { return stride_; }
    [[gnu::always_inline]] const bf16* row(int query) const { return q_ + stride_ * query; }

   private:
    const bf16* q_;
    std::size_t stride_;
  };

  [[gnu::always_inline]] static __m512bh load(const bf16* pairs) {
    return (__m512bh)_mm512_loadu_si512(pairs);
  }
  [[gnu::always_inline]] static __m512bh broadcast(const bf16* two) { return (__m512bh)broadcastFour(two); }
  [[gnu::always_inline]] static __m512 multiplyAdd(__m512 sum, __m512bh elements, __m512bh two) {
    return _mm512_dpbf16_ps(sum, elements, two);
  }
  [[gnu::always_inline]] static void store(bf16* to, __m512 p0, __m512 p1) { storeRounded(to, p0, p1); }
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/attention/exact-pages-avx512.inl"

namespace tandem::cpu {

const AttentionKernels kAvx512Attention = {
    .attendPage = attendPage,
    .boundPage = boundPage,
    .scorePage = scorePageAvx512,
    .quantizeQueries = quantizeQueriesAvx512,
    .attendCodes = {nullptr, attendInt8Avx512, attendInt4Avx512Bf16, attendInt2Avx512Bf16}};

}  // namespace tandem::cpu
