#pragma once

// What one core multiplies out of its registers, with no memory in the way: the denominator of "percent of
// peak" in the matmul benchmark. Assembly, so that the compiler neither moves nor removes it.

#include <cstdint>

#include "core/ops.h"
#include "cpu/isa.h"
#include "timing.h"

namespace tandem::bench {

#if defined(__x86_64__)

// Twelve independent sums: more than two pipes of four or five cycles need. `ones` are operands of the
// instruction's type, in registers xmm, ymm or zmm by `wide`.
#define TANDEM_PEAK(name, instruction, wide, ones)                                                           \
  inline void name(std::int64_t rounds) {                                                                    \
    asm volatile("vmovd %1, %%xmm12\n vpbroadcastd %%xmm12, %%" wide                                         \
                 "12\n"                                                                                      \
                 "1: .irp n,0,1,2,3,4,5,6,7,8,9,10,11\n " instruction " %%" wide "12, %%" wide "12, %%" wide \
                 "\\n\n .endr\n"                                                                             \
                 "dec %0\n jnz 1b\n vzeroupper"                                                              \
                 : "+r"(rounds)                                                                              \
                 : "r"(ones)                                                                                 \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",     \
                   "xmm10", "xmm11", "xmm12");                                                               \
  }

TANDEM_PEAK(dotCodes512, "vpdpbusd", "zmm", 0x01010101)
TANDEM_PEAK(dotBf16x512, "vdpbf16ps", "zmm", 0x3f803f80)
TANDEM_PEAK(fma512, "vfmadd231ps", "zmm", 0x3f800000)
TANDEM_PEAK(dotCodes256, "%{vex%} vpdpbusd", "ymm", 0x01010101)
TANDEM_PEAK(multiplyPairs256, "vpmaddwd", "ymm", 0x00010001)
TANDEM_PEAK(fma256, "vfmadd231ps", "ymm", 0x3f800000)

#undef TANDEM_PEAK

// Four sums of two by two operands, as a matmul would hold them.
template <bool kInteger>
void dotTiles(std::int64_t rounds) {
  struct alignas(64) {
    std::uint8_t palette = 1, start = 0, reserved[14] = {};
    std::uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } layout;
  asm volatile("ldtilecfg %0\n .irp n,0,1,2,3,4,5,6,7\n tilezero %%tmm\\n\n .endr" : : "m"(layout));
  for (; rounds > 0; --rounds) {
    if constexpr (kInteger) {
      asm volatile(
          "tdpbsud %%tmm6, %%tmm4, %%tmm0\n tdpbsud %%tmm7, %%tmm4, %%tmm1\n"
          "tdpbsud %%tmm6, %%tmm5, %%tmm2\n tdpbsud %%tmm7, %%tmm5, %%tmm3" ::);
    } else {
      asm volatile(
          "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n"
          "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n tdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::);
    }
  }
  asm volatile("tilerelease");
}

#endif

// Multiplications and additions a second of one core; 0 for portable, whose peak is the compiler's affair.
inline double peakOf([[maybe_unused]] Isa isa, [[maybe_unused]] WeightClass weightClass) {
#if defined(__x86_64__)
  constexpr std::int64_t kRounds = 200'000;
  const bool integer = weightClass != WeightClass::bf16;
  const auto rate = [](double productsARound, auto&& body) {
    return 2 * productsARound * kRounds / measure(0.05, [&] { body(kRounds); }).wall;
  };
  switch (isa) {
    case Isa::amx:
      return integer ? rate(4 * 16 * 16 * 64, dotTiles<true>) : rate(4 * 16 * 16 * 32, dotTiles<false>);
    case Isa::avx512:
      return integer ? rate(12 * 64, dotCodes512) : rate(12 * 32, dotBf16x512);
    case Isa::avx512Vnni:
      return integer ? rate(12 * 64, dotCodes512) : rate(12 * 16, fma512);
    case Isa::avxVnni:
      return integer ? rate(12 * 32, dotCodes256) : rate(12 * 8, fma256);
    case Isa::avx2:
      return integer ? rate(12 * 16, multiplyPairs256) : rate(12 * 8, fma256);
    case Isa::portable:
      break;
  }
#endif
  return 0;
}

}  // namespace tandem::bench
