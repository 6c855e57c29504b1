#include "cpu/requantize/kernels.inl"

namespace tandem::cpu {

const RequantizeKernels kAvx512Requantize = kKernels;

}  // namespace tandem::cpu
