#include <immintrin.h>

namespace tandem::cpu {
namespace {

[[gnu::always_inline]] inline __m256i multiplyAdd(__m256i sums, __m256i a, __m256i b) {
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
  // GCC would otherwise add products up in another order, to which registers do not suffice.
  asm("" : "+x"(sums));
  return sums;
}

}  // namespace
}  // namespace tandem::cpu

#include "cpu/attention/int8-attention.inl"

namespace tandem::cpu {

void attendInt8Avx2(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  for (std::size_t i = 0; i < pages.size(); ++i) attendInt8(tile, pages[i], next[i]);
}

}  // namespace tandem::cpu
