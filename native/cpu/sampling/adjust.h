#pragma once

#include <span>

#include "core/ops.h"

namespace tandem::cpu {

// Penalties, logit bias and suppressed tokens, in this order, in place. `seen` names each token once.
// Throws Error if a token lies outside the row.
void adjustLogits(std::span<float> logits, const SampleRequest& request);

}  // namespace tandem::cpu
