#include "cpu/requantize/kernels.inl"

namespace tandem::cpu {

const RequantizeKernels kAvx2Requantize = kKernels;

}  // namespace tandem::cpu
