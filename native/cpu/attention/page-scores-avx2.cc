#include "cpu/attention/page-scores-avx2.h"
#include "cpu/attention/byte-sums-avx2.h"
#include "cpu/attention/page-scores.inl"

namespace tandem::cpu {

void scorePageAvx2(const PageScores& page) { scorePage(page); }

}  // namespace tandem::cpu
