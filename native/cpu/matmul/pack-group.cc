#include "cpu/matmul/pack-group.h"

namespace tandem::cpu {

const PackGroup& packGroupOf(Isa isa) {
#if defined(__x86_64__)
  if (isa != Isa::portable) return kAvx2PackGroup;
#endif
  (void)isa;
  return kPortablePackGroup;
}

}  // namespace tandem::cpu
