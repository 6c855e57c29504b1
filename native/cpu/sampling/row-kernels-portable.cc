#include "cpu/sampling/row-kernels.inl"

namespace tandem::cpu {

const RowKernels kPortableRows = kKernels;

}  // namespace tandem::cpu
