#pragma once

#include <string_view>
#include <vector>

namespace tandem {

// The instruction sets that kernels are written for. `avx512` means Foundation, BW, VL, DQ, VNNI and BF16
// together; `amx` that and the int8 and bf16 tiles.
enum class Isa { portable, avx2, avx512, amx };

// What this processor and its system allow, best first; portable is always the last.
const std::vector<Isa>& availableIsas();

const char* isaName(Isa isa);

// Throws Error naming what is available if the name is unknown or this machine lacks it.
Isa parseIsa(std::string_view name);

}  // namespace tandem
