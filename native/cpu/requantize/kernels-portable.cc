#include "cpu/requantize/kernels.inl"

namespace tandem::cpu {

const RequantizeKernels kPortableRequantize = kKernels;

}  // namespace tandem::cpu
