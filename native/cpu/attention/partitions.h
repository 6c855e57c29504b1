#pragma once

// Attention to sequences of which rows see a selection of pages.

#include <span>

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/attention/attention.h"
#include "cpu/isa.h"

namespace tandem::cpu {

// See Ops::attendPartitions in core/ops.h. Throws Error if a shape, a page table or its partitions do not
// fit.
void attendPartitions(Isa isa, ThreadTeam& team, AttentionWorkspace& workspace, Tensor qkv,
                      std::span<const EntryRows> entries, std::span<const KvView> views,
                      std::span<const PagePartitions> partitions, const AttentionShape& shape,
                      const RopeTable& rope, Tensor out);

}  // namespace tandem::cpu
