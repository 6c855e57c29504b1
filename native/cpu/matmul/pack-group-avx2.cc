#include "cpu/matmul/pack-group.inl"

namespace tandem::cpu {

const PackGroup kAvx2PackGroup{packInt8Group, packInt4Group};

}  // namespace tandem::cpu
