#pragma once

#include <memory>
#include <optional>

#include "core/ops.h"
#include "cpu/isa.h"

namespace tandem {

// A backend on `units` of the cores this process may use, with the kernels of `isa` or of the best
// instruction set there is. Nothing is process-wide: several may live at once. It must outlive its weights,
// buffers and ops. Throws Error if the process may not use that many cores or the machine lacks the
// instruction set.
std::unique_ptr<Backend> makeCpuBackend(int units, std::optional<Isa> isa = std::nullopt);

}  // namespace tandem
