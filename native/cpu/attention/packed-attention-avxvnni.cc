#include "cpu/attention/byte-sums-avxvnni.h"
#include "cpu/attention/packed-attention.inl"

namespace tandem::cpu {

void attendInt4AvxVnni(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attendPacked<4>(tile, pages, next);
}
void attendInt2AvxVnni(const QueryTile& tile, std::span<const PageCodes> pages, Prefetch* next) {
  attendPacked<2>(tile, pages, next);
}

}  // namespace tandem::cpu
