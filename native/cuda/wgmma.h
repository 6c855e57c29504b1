#pragma once

// The matrix product of a warpgroup, 9.0 alone: four warps multiply what lies in shared memory. Compiled for
// other architectures it is nothing, and no kernel may be launched that calls it.

#if defined(TANDEM_CUDA_EMULATION)

#include "cuda-emulated-wgmma.h"

#else

#include <cstddef>
#include <cstdint>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TANDEM_WGMMA 1
#endif

namespace tandem::cuda {

// A matrix [rows, 64] of bf16 in shared memory in the 128-byte swizzle, from column 16 k16 on: eights of rows
// lie 1024 bytes apart, the first at a multiple of 1024.
__device__ inline std::uint64_t operandAt(const std::byte* tile, int k16) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(tile));
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62, kStride = std::uint64_t{1024 >> 4} << 32;
  // In units of 16 bytes; shared memory ends before the field does.
  return (kSwizzle128 | kStride | std::uint64_t{1} << 16 | (address >> 4)) + 2 * k16;
}

// The operand so many bytes behind: further columns, or a tile of the same layout.
__device__ inline std::uint64_t operandBehind(std::uint64_t operand, int bytes) {
  // The field of addresses ends within the lower word: one addition, without a carry.
  return (operand & ~std::uint64_t{0xffffffff}) |
         (static_cast<std::uint32_t>(operand) + static_cast<std::uint32_t>(bytes >> 4));
}

#if defined(TANDEM_WGMMA)

// Before the first product of a group, and after sums have been touched.
__device__ inline void beginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void endProductGroup() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until so many groups are left that are not done.
template <int kLeft>
__device__ inline void waitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

// A warpgroup takes registers beyond what it was started with, or gives some back: so many a thread from now
// on. Taking waits until others have given.
template <int kRegisters>
__device__ inline void takeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void giveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// The operands of a product's sums, of N / 8 eights with four registers each, and their names.
#define TANDEM_SUMS4(j) "+f"(sums[j][0]), "+f"(sums[j][1]), "+f"(sums[j][2]), "+f"(sums[j][3])
#define TANDEM_SUMS8(j) TANDEM_SUMS4(j), TANDEM_SUMS4(j + 1)
#define TANDEM_SUMS16(j) TANDEM_SUMS8(j), TANDEM_SUMS8(j + 2)
#define TANDEM_SUMS32(j) TANDEM_SUMS16(j), TANDEM_SUMS16(j + 4)
#define TANDEM_SUMS64(j) TANDEM_SUMS32(j), TANDEM_SUMS32(j + 8)
#define TANDEM_NAMES4 "%0, %1, %2, %3"
#define TANDEM_NAMES8 TANDEM_NAMES4 ", %4, %5, %6, %7"
#define TANDEM_NAMES16 TANDEM_NAMES8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define TANDEM_NAMES32 \
  TANDEM_NAMES16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TANDEM_NAMES40 TANDEM_NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define TANDEM_NAMES48 TANDEM_NAMES40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define TANDEM_NAMES52 TANDEM_NAMES48 ", %48, %49, %50, %51"
#define TANDEM_NAMES64 TANDEM_NAMES52 ", %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define TANDEM_NAMES68 TANDEM_NAMES64 ", %64, %65, %66, %67"
#define TANDEM_NAMES96                                                                                   \
  TANDEM_NAMES68                                                                                         \
  ", %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87" \
  ", %88, %89, %90, %91, %92, %93, %94, %95"
#define TANDEM_NAMES128                                                                          \
  TANDEM_NAMES96                                                                                 \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// multiply(sums, a, b): sums [64, N] += a [64, 16] bt [N, 16]. With g = lane / 4 and t = lane % 4 warp w of
// the group holds in sums[j] rows 16w + g (0, 1) and 16w + g + 8 (2, 3) of columns 8j + 2t and the next.
// Unless it `adds`, what the sums were before does not count.
//
// `a` lies in shared memory too, or in registers: of a lane rows g (0, 2) and g + 8 (1, 3) of its warp's 16,
// columns 2t, 2t+1 (0, 1) and 2t+8, 2t+9 (2, 3). p0 to p5 are the numbers of what comes behind the sums.
#define TANDEM_PRODUCT(n, eights, names, p0, p1, p2, p3, p4, p5, ...)                                   \
  __device__ inline void multiply(float(&sums)[eights][4], std::uint64_t a, std::uint64_t b,            \
                                  bool adds = true) {                                                   \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #p2 ", 0; wgmma.mma_async.sync.aligned.m64n" #n     \
                 "k16.f32.bf16.bf16 {" names "}, %" #p0 ", %" #p1 ", p, 1, 1, 0, 0; }"                  \
                 : __VA_ARGS__                                                                          \
                 : "l"(a), "l"(b), "r"(static_cast<int>(adds)));                                        \
  }                                                                                                     \
  __device__ inline void multiply(float(&sums)[eights][4], const std::uint32_t(&a)[4], std::uint64_t b, \
                                  bool adds = true) {                                                   \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #p5 ", 0; wgmma.mma_async.sync.aligned.m64n" #n     \
                 "k16.f32.bf16.bf16 {" names "}, {%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}, %" #p4       \
                 ", p, 1, 1, 0; }"                                                                      \
                 : __VA_ARGS__                                                                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds)));    \
  }

TANDEM_PRODUCT(8, 1, TANDEM_NAMES4, 4, 5, 6, 7, 8, 9, TANDEM_SUMS4(0))
TANDEM_PRODUCT(16, 2, TANDEM_NAMES8, 8, 9, 10, 11, 12, 13, TANDEM_SUMS8(0))
TANDEM_PRODUCT(32, 4, TANDEM_NAMES16, 16, 17, 18, 19, 20, 21, TANDEM_SUMS16(0))
TANDEM_PRODUCT(64, 8, TANDEM_NAMES32, 32, 33, 34, 35, 36, 37, TANDEM_SUMS32(0))
TANDEM_PRODUCT(80, 10, TANDEM_NAMES40, 40, 41, 42, 43, 44, 45, TANDEM_SUMS32(0), TANDEM_SUMS8(8))
TANDEM_PRODUCT(96, 12, TANDEM_NAMES48, 48, 49, 50, 51, 52, 53, TANDEM_SUMS32(0), TANDEM_SUMS16(8))
TANDEM_PRODUCT(104, 13, TANDEM_NAMES52, 52, 53, 54, 55, 56, 57, TANDEM_SUMS32(0), TANDEM_SUMS16(8),
               TANDEM_SUMS4(12))
TANDEM_PRODUCT(128, 16, TANDEM_NAMES64, 64, 65, 66, 67, 68, 69, TANDEM_SUMS64(0))
TANDEM_PRODUCT(136, 17, TANDEM_NAMES68, 68, 69, 70, 71, 72, 73, TANDEM_SUMS64(0), TANDEM_SUMS4(16))
TANDEM_PRODUCT(192, 24, TANDEM_NAMES96, 96, 97, 98, 99, 100, 101, TANDEM_SUMS64(0), TANDEM_SUMS32(16))
TANDEM_PRODUCT(256, 32, TANDEM_NAMES128, 128, 129, 130, 131, 132, 133, TANDEM_SUMS64(0), TANDEM_SUMS64(16))

// Keeps what comes before and after from changing places with uses of these sums, which a wait alone does
// not.
template <int kEights>
__device__ inline void settle(float (&sums)[kEights][4]) {
#pragma unroll
  for (int j = 0; j < kEights; ++j) asm volatile("" : TANDEM_SUMS4(j)::"memory");
}

// Of operands from here on only so many rows of `a` and of `b` matter: what lies behind them is multiplied,
// whatever it is and whoever writes it meanwhile, and the sums are not used. Says so to who looks for races
// in the tests; on a device it is nothing.
__device__ inline void useOperandRows(int, int) {}

#undef TANDEM_SUMS4
#undef TANDEM_SUMS8
#undef TANDEM_SUMS16
#undef TANDEM_SUMS32
#undef TANDEM_SUMS64
#undef TANDEM_NAMES4
#undef TANDEM_NAMES8
#undef TANDEM_NAMES16
#undef TANDEM_NAMES32
#undef TANDEM_NAMES40
#undef TANDEM_NAMES48
#undef TANDEM_NAMES52
#undef TANDEM_NAMES64
#undef TANDEM_NAMES68
#undef TANDEM_NAMES96
#undef TANDEM_NAMES128
#undef TANDEM_PRODUCT

#endif

}  // namespace tandem::cuda

#endif
