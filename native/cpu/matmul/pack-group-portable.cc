#include "cpu/matmul/pack-group.inl"

namespace tandem::cpu {

const PackGroup kPortablePackGroup{packInt8Group, packInt4Group};

}  // namespace tandem::cpu
