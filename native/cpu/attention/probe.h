#pragma once

// Where the queries of some rows look, page by page: what tells which pages matter.

#include <cstdint>
#include <span>

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/attention/attention.h"
#include "cpu/isa.h"

namespace tandem::cpu {

// See Ops::probe in core/ops.h. Throws Error if a shape, a page table or a result does not fit.
void probe(Isa isa, ThreadTeam& team, AttentionWorkspace& workspace, Tensor qkv,
           std::span<const EntryRows> entries, std::span<const KvView> views, const AttentionShape& shape,
           std::span<const std::span<std::uint32_t>> saliency);

}  // namespace tandem::cpu
