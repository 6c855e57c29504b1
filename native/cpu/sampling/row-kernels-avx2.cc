#include "cpu/sampling/row-kernels.inl"

namespace tandem::cpu {

const RowKernels kAvx2Rows = kKernels;

}  // namespace tandem::cpu
