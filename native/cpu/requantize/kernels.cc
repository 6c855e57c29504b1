#include "cpu/requantize/kernels.h"

namespace tandem::cpu {

RequantizeKernels requantizeKernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::amx:
    case Isa::avx512:
    case Isa::avx512Vnni:
      return kAvx512Requantize;
    case Isa::avxVnni:
    case Isa::avx2:
      return kAvx2Requantize;
#endif
    default:
      return kPortableRequantize;
  }
}

}  // namespace tandem::cpu
