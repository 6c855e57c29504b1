#include "cpu/attention/attention-avx2.h"
#include "cpu/attention/int8-attention-avx2.h"
#include "cpu/attention/kernels.h"
#include "cpu/attention/packed-attention-avx2.h"
#include "cpu/attention/page-bounds.inl"
#include "cpu/attention/page-scores-avx2.h"

namespace tandem::cpu {

const AttentionKernels kAvxVnniAttention = {
    .attendPage = attendPageAvx2,
    .boundPage = boundPage,
    .scorePage = scorePageAvxVnni,
    .quantizeQueries = quantizeQueriesAvx2,
    .attendCodes = {nullptr, attendInt8AvxVnni, attendInt4AvxVnni, attendInt2AvxVnni}};

}  // namespace tandem::cpu
