#pragma once

#include <span>

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/isa.h"

namespace tandem::cpu {

// See Ops::requantize in core/ops.h. Throws Error if a conversion is not one that exists.
void requantize(Isa isa, ThreadTeam& team, std::span<const PageConversion> conversions);

// One page, on the calling thread.
void requantizePage(Isa isa, const PageConversion& conversion);

}  // namespace tandem::cpu
