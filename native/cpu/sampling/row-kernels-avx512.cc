#include "cpu/sampling/row-kernels.inl"

namespace tandem::cpu {

const RowKernels kAvx512Rows = kKernels;

}  // namespace tandem::cpu
