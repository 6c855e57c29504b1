#include "cpu/attention/byte-sums-avx2.h"
#include "cpu/attention/packed-attention.inl"

namespace tandem::cpu {

void attendInt4Avx2(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attendPacked<4>(tile, pages, next);
}
void attendInt2Avx2(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attendPacked<2>(tile, pages, next);
}

}  // namespace tandem::cpu
