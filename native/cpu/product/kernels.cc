#include "cpu/product/kernels.h"

namespace tandem::cpu {

ProductKernel productKernel(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::amx:
    case Isa::avx512:
    case Isa::avx512Vnni:
      return kAvx512Product;
    case Isa::avxVnni:
    case Isa::avx2:
      return kAvx2Product;
#endif
    default:
      return kPortableProduct;
  }
}

}  // namespace tandem::cpu
