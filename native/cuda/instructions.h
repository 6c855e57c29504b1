#pragma once

// Instructions that CUDA C++ has no plain expression for. `cuda-emulation.h` does the same on the host.

#include <cstddef>
#include <cstdint>

namespace tandem::cuda {

// Two floats as bf16, rounded to nearest even, `low` in the low half.
__device__ inline std::uint32_t packBf16(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// a * b + c on bf16 pairs, rounded once.
__device__ inline std::uint32_t fmaBf16(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t pair;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(a), "r"(b), "r"(c));
  return pair;
}

// (bits & mask) | others. Of two constants one lies in an instruction and the other in a register, where the
// compiler by itself takes an instruction for each.
__device__ inline std::uint32_t maskedBehind(std::uint32_t bits, std::uint32_t mask, std::uint32_t others) {
  std::uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(bits), "r"(mask), "r"(others));
  return result;
}

// 2^x within two units in the last place; results below 2^-126 are 0.
__device__ inline float exp2Fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The higher of the two; not a number where one of them is none.
__device__ inline float maxOrNan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

// The higher, or the lower, of each bf16 of two pairs; not a number where one of them is none.
__device__ inline std::uint32_t maxBf16(std::uint32_t a, std::uint32_t b) {
  std::uint32_t pair;
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
  return pair;
}
__device__ inline std::uint32_t minBf16(std::uint32_t a, std::uint32_t b) {
  std::uint32_t pair;
  asm("min.NaN.bf16x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
  return pair;
}

// c [16, 8] += a [16, 16] b [16, 8], a warp together. With g = lane / 4 and t = lane % 4 a lane holds
//   a  rows g (0, 2) and g + 8 (1, 3), columns 2t, 2t+1 (0, 1) and 2t+8, 2t+9 (2, 3)
//   b  rows 2t, 2t+1 (0) and 2t+8, 2t+9 (1) of column g
//   c  rows g (0, 1) and g + 8 (2, 3), columns 2t and 2t+1
__device__ inline void multiplyTiles(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                     std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// An 8 x 8 matrix of bf16 transposed: lane (g, t) gives row g, columns 2t and 2t+1, and gets the same of the
// transposed one.
__device__ inline std::uint32_t transposeMatrix(std::uint32_t pair) {
  std::uint32_t result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
}

// The value, of which the compiler does not know that it is the same as before: what is made of it is not
// kept in registers over a loop.
__device__ inline int computedAnew(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

template <class T>
__device__ inline T* computedAnew(T* address) {
  asm volatile("" : "+l"(address));
  return address;
}

// What all lanes of a warp have alike, in a register that keeps it: the thread's number and the address of
// shared memory are else read and computed again wherever they are used.
__device__ inline int keptByWarp(int value) { return __shfl_sync(~0u, value, 0); }
__device__ inline std::byte* keptByWarp(std::byte* shared) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  return static_cast<std::byte*>(__cvta_shared_to_generic(__shfl_sync(~0u, address, 0)));
}

// Reads, if it is `wanted`, what no kernel writes meanwhile and this one reads once, past L1. Without a
// branch: behind one the compiler copies what was read, and so waits for it.
__device__ inline void loadOnce(uint4& value, const uint4* address, bool wanted) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %5, 0; @p ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4]; }"
      : "+r"(value.x), "+r"(value.y), "+r"(value.z), "+r"(value.w)
      : "l"(address), "r"(static_cast<int>(wanted)));
}
__device__ inline void loadOnce(uint2& value, const uint2* address, bool wanted) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %3, 0; @p ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2]; }"
               : "+r"(value.x), "+r"(value.y)
               : "l"(address), "r"(static_cast<int>(wanted)));
}

// Begins to copy 16 bytes from global to shared memory. Copies are waited for in groups, oldest first.
__device__ inline void copyAsync(void* shared, const void* global) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}
// The same where `there`, else zeros; `global` is not read then.
__device__ inline void copyAsyncOrZero(void* shared, const void* global, bool there) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void endCopyGroup() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ inline void waitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// Waits for the end of the kernels in front of this one, of one that was launched early: before it reads what
// they write, or writes what they read. 9.0 and later; before, none is launched early.
__device__ inline void waitForKernelsBefore() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel may begin, if it is launched early, once all blocks of this one have said so.
__device__ inline void letNextKernelBegin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// The shared memory that a launch asks for, aligned to 1024 bytes.
__device__ inline std::byte* dynamicShared() {
  extern __shared__ __align__(1024) std::byte memory[];
  return memory;
}

// Four 8 x 8 matrices of bf16 from shared memory: lane l names row l % 8 of matrix l / 8, and gets of each
// matrix the pair at row l / 4, columns 2 (l % 4) and the next.
__device__ inline void loadMatrices(std::uint32_t (&matrices)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(address)
               : "memory");
}

}  // namespace tandem::cuda
