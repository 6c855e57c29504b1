#pragma once

#include <string_view>
#include <vector>

namespace tandem {

// The instruction sets that kernels are written for. `avx2` means AVX2, FMA and F16C; `avxVnni` these and
// AVX-VNNI (Intel's processors without AVX-512 since 2021); `avx512Vnni` AVX-512 Foundation, BW, VL, DQ and
// VNNI (Cascade Lake, Ice Lake); `avx512` these and BF16; `amx` those and the int8 and bf16 tiles.
enum class Isa { portable, avx2, avxVnni, avx512Vnni, avx512, amx };

// What this processor and its system allow, best first; portable is always the last.
const std::vector<Isa>& availableIsas();

const char* isaName(Isa isa);

// Throws Error naming what is available if the name is unknown or this machine lacks it.
Isa parseIsa(std::string_view name);

}  // namespace tandem
