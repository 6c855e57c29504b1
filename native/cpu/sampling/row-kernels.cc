#include "cpu/sampling/row-kernels.h"

namespace tandem::cpu {

RowKernels rowKernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::amx:
    case Isa::avx512:
    case Isa::avx512Vnni:
      return kAvx512Rows;
    case Isa::avxVnni:
    case Isa::avx2:
      return kAvx2Rows;
#endif
    default:
      return kPortableRows;
  }
}

}  // namespace tandem::cpu
