#pragma once

#include <span>

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/rope.h"

namespace tandem::cpu {

// See Ops::appendKv in core/ops.h. A page is cleared when its first token comes, so that the part behind the
// last token holds finite values, which attention relies on. Throws Error if a shape or a page table does not
// fit.
void appendKv(ThreadTeam& team, RopeAngles& angles, Tensor qkv, std::span<const EntryRows> entries,
              std::span<const KvView> views, const AttentionShape& shape, const RopeTable& rope,
              std::span<const float> qGain, std::span<const float> kGain, float eps);

}  // namespace tandem::cpu
