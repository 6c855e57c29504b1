#include <immintrin.h>

namespace tandem::cpu {
namespace {

[[gnu::always_inline]] inline __m256i multiplyAdd(__m256i sums, __m256i a, __m256i b) {
  return _mm256_dpwssd_avx_epi32(sums, a, b);
}

}  // namespace
}  // namespace tandem::cpu

#include "cpu/attention/int8-attention.inl"

namespace tandem::cpu {

void attendInt8AvxVnni(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  for (std::size_t i = 0; i < pages.size(); ++i) attendInt8(tile, pages[i], next[i]);
}

}  // namespace tandem::cpu
