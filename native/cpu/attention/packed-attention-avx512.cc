#include "cpu/attention/packed-attention-avx512.h"

#include <immintrin.h>

#include "cpu/attention/whole-numbers-avx512.h"

namespace tandem::cpu {
namespace {

class Middles {
 public:
  [[gnu::always_inline]] explicit Middles(__m512i pairs) : wide_(widenedPairs(pairs)) {}

  [[gnu::always_inline]] __m512 addTo(__m512 sum, __m512i queries) const {
    const WidePairs q = widenedPairs(queries);
    return _mm512_fmadd_ps(q.odd, wide_.odd, _mm512_fmadd_ps(q.even, wide_.even, sum));
  }

 private:
  WidePairs wide_;
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/attention/packed-attention-avx512.inl"

namespace tandem::cpu {

void attendInt4Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attend<4>(tile, pages, next);
}
void attendInt2Avx512(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attend<2>(tile, pages, next);
}

}  // namespace tandem::cpu
