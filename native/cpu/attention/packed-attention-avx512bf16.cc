#include "cpu/attention/packed-attention-avx512.h"

#include <immintrin.h>

namespace tandem::cpu {
namespace {

// Widened as without BF16, pages would take 4% longer.
class Middles {
 public:
  [[gnu::always_inline]] explicit Middles(__m512i pairs) : pairs_((__m512bh)pairs) {}

  [[gnu::always_inline]] __m512 addTo(__m512 sum, __m512i queries) const {
    return _mm512_dpbf16_ps(sum, (__m512bh)queries, pairs_);
  }

 private:
  __m512bh pairs_;
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/attention/packed-attention-avx512.inl"

namespace tandem::cpu {

void attendInt4Avx512Bf16(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attend<4>(tile, pages, next);
}
void attendInt2Avx512Bf16(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attend<2>(tile, pages, next);
}

}  // namespace tandem::cpu
