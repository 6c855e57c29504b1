#include "cpu/attention/byte-sums-avxvnni.h"
#include "cpu/attention/page-scores-avx2.h"
#include "cpu/attention/page-scores.inl"

namespace tandem::cpu {

void scorePageAvxVnni(const PageScores& page) { scorePage(page); }

}  // namespace tandem::cpu
