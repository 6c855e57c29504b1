#pragma once

// Finds races of emulated kernels: two accesses to the same bytes, of which one writes, that nothing orders.
// The emulation runs threads one after another, so a kernel with a race computes the right thing here, and
// the wrong thing on a device some time. What orders accesses is what CUDA promises, and no more:
//
//   __syncthreads         all threads of a block
//   __syncwarp            the lanes of a warp; a shuffle, a vote or a product of tiles does not
//   a Barrier             who has arrived, before who has waited
//   __threadfence and an atomic operation behind it, before who finds what it left and is behind a fence
//                         itself: threads of other blocks
//   copies and products   their own accesses, begun behind what their thread did, end where it waits for them
//   publishToTensorCores  what a thread wrote to shared memory, before products of matrices that read it
//   launches              one after another, but for what a kernel that began early does before it waits
//
// Accesses of kernels come from the compiler: what is compiled by -fsanitize=thread calls a function at each
// of them (cuda-race-hooks.cc). ThreadSanitizer itself knows neither warps nor copies on their own.

#include <cstddef>
#include <cstdint>
#include <string>

// Of the emulation itself, whose accesses are not the kernel's.
#define TANDEM_UNSEEN __attribute__((no_sanitize("thread")))

namespace tandem::emulation::races {

// Who accesses memory: a thread, or what it has begun and goes on beside. Tensor cores are those of its warp.
enum class By : std::uint8_t { thread, copies, bulkCopies, tensorCores };

enum class Does : std::uint8_t { read, write, atomic };

// Whether accesses are looked at, in a block from its beginning to its end, and the stack of the thread that
// has its turn, which no other thread knows. Asked at every access.
struct Look {
  bool isOn = false;
  std::uintptr_t stack = 0;
  std::size_t stackBytes = 0;

  bool sees(const void* address) const {
    return isOn && reinterpret_cast<std::uintptr_t>(address) - stack >= stackBytes;
  }
};
inline constinit thread_local Look look;

// Of the thread threadIdx. `site` is an address in the code that asks for it.
void access(By by, Does does, const void* address, std::size_t bytes, const void* site);

// A kernel's first launches in each test are looked at, and then one in some: tests launch some thousands of
// times.
void beginLaunch(const void* kernel, bool early);
// What was found in the launch, for people; empty if nothing was.
std::string endLaunch();
void beginBlock(unsigned threads, const std::byte* shared, std::size_t sharedBytes);
void endBlock();

void meetBlock();
// Each lane says so once the others have come.
void meetWarp();

void arrive(const void* barrier, unsigned phase);
void await(const void* barrier, unsigned phase);
// A bulk copy of this thread is done, in this phase.
void completeBulkCopies(const void* barrier, unsigned phase);

// Of copies and tensor cores.
void endGroup(By by);
void waitForGroups(By by, unsigned left);

void publishToTensorCores();
// How many rows of operands a and b matter (wgmma.h), and of one of them.
void useOperandRows(int a, int b);
int operandRows(int which);
void fenceThread();

void waitForKernelsBefore();
void letNextKernelBegin();

}  // namespace tandem::emulation::races
