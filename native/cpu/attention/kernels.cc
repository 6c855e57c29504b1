#include "cpu/attention/kernels.h"

namespace tandem::cpu {

AttentionKernels attentionKernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::amx:
      return kAmxAttention;
    case Isa::avx512:
      return kAvx512Attention;
    case Isa::avx512Vnni:
      return kAvx512VnniAttention;
    case Isa::avxVnni:
      return kAvxVnniAttention;
    case Isa::avx2:
      return kAvx2Attention;
#endif
    default:
      return kPortableAttention;
  }
}

}  // namespace tandem::cpu
