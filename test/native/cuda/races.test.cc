#include <cstddef>
#include <cstdint>
#include <string>

#include "check.h"

#ifdef TANDEM_SHOWS_ACCESSES

#include "cuda/block-sums.h"
#include "cuda/bulk-copies.h"
#include "cuda/kernel.h"
#include "cuda/wgmma.h"

using namespace tandem;
using namespace tandem::cuda;
using namespace tandem::test;

namespace {

// What a launch is refused with; empty if it is not.
template <class... Parameters, class... Arguments>
std::string racesOf(void (*kernel)(Parameters...), dim3 grid, unsigned threads, std::size_t sharedBytes,
                    const Arguments&... arguments) {
  try {
    launchShared("a test", kernel, grid, threads, sharedBytes, nullptr, arguments...);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void expectRace(const std::string& races, const char* part) {
  equal(races.find(part) != std::string::npos, true, races.empty() ? "no race is found" : races.c_str());
}

void expectNone(const std::string& races) {
  equal(races.empty(), true, races.empty() ? "none" : races.c_str());
}

enum class Meets { notAtAll, byShuffle, asWarp, asBlock };

// Each thread leaves a number and takes that of another, `distance` behind it.
__global__ void passOn(int* out, int distance, Meets meets) {
  __shared__ int left[64];
  const int thread = static_cast<int>(threadIdx.x);
  left[thread] = thread;
  if (meets == Meets::byShuffle) __shfl_sync(~0u, thread, 0);
  if (meets == Meets::asWarp) __syncwarp();
  if (meets == Meets::asBlock) __syncthreads();
  out[thread] = left[thread ^ distance];
}

// A thread takes what all left, and leaves something new, at once or when all have taken it.
__global__ void takeTurns(int* out, unsigned writer, Meets meets) {
  __shared__ int place;
  const auto thread = threadIdx.x;
  for (int turn = 0; turn < 3; ++turn) {
    if (thread == writer) place = turn;
    __syncthreads();
    out[thread] = place;
    if (meets == Meets::asBlock) __syncthreads();
  }
}

__global__ void writeAlike(int* out, bool alike) {
  __shared__ int place[2];
  place[0] = alike ? 7 : static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = place[0];
}

// The second word of a line is read while the first is written.
__global__ void neighbours(int* out) {
  alignas(16) __shared__ std::uint8_t bytes[64];
  bytes[threadIdx.x] = static_cast<std::uint8_t>(threadIdx.x);
  out[threadIdx.x] = bytes[threadIdx.x];
}

__global__ void copyAside(const std::byte* from, std::uint32_t* out, int groupsLeft) {
  alignas(16) __shared__ std::byte there[32];
  copyAsync(there, from);
  endCopyGroup();
  copyAsync(there + 16, from + 16);
  endCopyGroup();
  if (groupsLeft == 0) waitForCopies<0>();
  if (groupsLeft == 1) waitForCopies<1>();
  *out = *reinterpret_cast<const std::uint32_t*>(there + 16);
}

// The first thread brings what the others read, and brings anew when they say so.
__global__ void ring(const std::byte* from, std::uint32_t* out, bool waitsForReaders, bool allArrive) {
  std::byte* place = dynamicShared();
  auto& brought = *reinterpret_cast<Barrier*>(place + 16);
  auto& used = *reinterpret_cast<Barrier*>(place + 24);
  if (threadIdx.x == 0) {
    initialise(brought, 1);
    initialise(used, allArrive ? 32 : 1);
    publishBarriers();
  }
  __syncthreads();
  constexpr int kTurns = 3;
  if (threadIdx.x >= 32) {
    if (threadIdx.x != 32) return;
    for (unsigned turn = 0; turn < kTurns; ++turn) {
      if (waitsForReaders) waitFor(used, turn % 2 ^ 1);
      arriveExpecting(brought, 16);
      copyBulk(place, from, 16, brought);
    }
    return;
  }
  for (unsigned turn = 0; turn < kTurns; ++turn) {
    waitFor(brought, turn % 2);
    out[threadIdx.x] = *reinterpret_cast<const std::uint32_t*>(place);
    if (allArrive || threadIdx.x == 0) arrive(used);
  }
}

// A warpgroup multiplies what it has put down itself.
__global__ void multiplyOwn(float* out, bool publishes, bool waits) {
  std::byte* tile = dynamicShared();
  for (unsigned i = threadIdx.x; i < 8 * 1024 / 4; i += blockDim.x)
    reinterpret_cast<std::uint32_t*>(tile)[i] = 0x3f803f80;
  if (publishes) publishToTensorCores();
  __syncthreads();
  float sums[1][4] = {};
  beginProducts();
  multiply(sums, operandAt(tile, 0), operandAt(tile, 0));
  endProductGroup();
  if (waits) waitForProducts<0>();
  __syncthreads();
  reinterpret_cast<std::uint32_t*>(tile)[threadIdx.x] = 0;
  waitForProducts<0>();
  out[threadIdx.x] = sums[0][0];
}

// Blocks leave a number each; the last one adds them. It may lack the fence before it says so, or behind it
// has found that the others did.
struct Fences {
  bool before, behind;
};
__global__ void addInLast(int* numbers, std::uint32_t* arrived, int* sum, Fences fences) {
  if (threadIdx.x == 0) numbers[blockIdx.x] = 1;
  if (fences.before && fences.behind) {
    if (!comesLast(arrived, gridDim.x)) return;
  } else {
    __shared__ bool last;
    if (fences.before) __threadfence();
    if (threadIdx.x == 0) last = atomicAdd(arrived, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    if (fences.behind) __threadfence();
  }
  if (threadIdx.x != 0) return;
  *sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) *sum += numbers[i];
}

__global__ void fill(int* numbers, int value) {
  letNextKernelBegin();
  numbers[threadIdx.x] = value;
}
__global__ void copyEarly(const int* numbers, int* out, bool waitsFirst) {
  if (waitsFirst) waitForKernelsBefore();
  out[threadIdx.x] = numbers[threadIdx.x];
  if (!waitsFirst) waitForKernelsBefore();
}

}  // namespace

TEST(
    "cuda races: what a thread left is another's behind a barrier that both are at, and not behind a "
    "shuffle") {
  int numbers[64];
  int* const out = numbers;
  for (const int distance : {1, 32}) {
    const bool sameWarp = distance < 32;
    const auto races = [&](Meets meets) { return racesOf(passOn, dim3(1), 64, 0, out, distance, meets); };
    expectRace(races(Meets::notAtAll), "a race in shared memory");
    expectRace(races(Meets::byShuffle), "a race in shared memory");
    if (sameWarp) {
      expectNone(races(Meets::asWarp));
    } else {
      expectRace(races(Meets::asWarp), "reads");
    }
    expectNone(races(Meets::asBlock));
  }
}

TEST("cuda races: what others still read is not written") {
  int numbers[64];
  int* const out = numbers;
  for (const unsigned writer : {0u, 63u}) {
    expectRace(racesOf(takeTurns, dim3(1), 64, 0, out, writer, Meets::notAtAll), "a race in shared memory");
    expectNone(racesOf(takeTurns, dim3(1), 64, 0, out, writer, Meets::asBlock));
  }
}

TEST("cuda races: threads may write the same, and bytes beside each other") {
  int numbers[64];
  int* const out = numbers;
  expectNone(racesOf(writeAlike, dim3(1), 64, 0, out, true));
  expectRace(racesOf(writeAlike, dim3(1), 64, 0, out, false), "wrote");
  expectNone(racesOf(neighbours, dim3(2), 64, 0, out));
}

TEST("cuda races: copies are there when their group has been waited for") {
  alignas(16) const std::byte bytes[32] = {};
  std::uint32_t word;
  const std::byte* const from = bytes;
  std::uint32_t* const out = &word;
  expectNone(racesOf(copyAside, dim3(1), 1, 0, from, out, 0));
  expectRace(racesOf(copyAside, dim3(1), 1, 0, from, out, 1), "the copies of thread 0");
  expectRace(racesOf(copyAside, dim3(1), 1, 0, from, out, 2), "the copies of thread 0");
}

TEST("cuda races: a place is filled anew when all that read it have arrived") {
  alignas(16) const std::byte bytes[16] = {};
  std::uint32_t words[32];
  const std::byte* const from = bytes;
  std::uint32_t* const out = words;
  expectNone(racesOf(ring, dim3(1), 64, 32, from, out, true, true));
  expectRace(racesOf(ring, dim3(1), 64, 32, from, out, true, false), "the bulk copies of thread 32");
}

TEST("cuda races: tensor cores find what was published, and have done when they are waited for") {
  float sums[128];
  float* const out = sums;
  expectNone(racesOf(multiplyOwn, dim3(1), 128, 8192, out, true, true));
  expectRace(racesOf(multiplyOwn, dim3(1), 128, 8192, out, false, true), "has not published");
  expectRace(racesOf(multiplyOwn, dim3(1), 128, 8192, out, true, false), "the tensor cores of thread");
}

TEST("cuda races: the block that comes last sees what others left behind a fence") {
  int left[3], sum;
  int* const numbers = left;
  std::uint32_t arrived = 0;
  expectNone(racesOf(addInLast, dim3(3), 32, 0, numbers, &arrived, &sum, Fences{true, true}));
  equal(sum, 3, "sum");
  equal(arrived, 0u, "arrived");
  for (const Fences fences : {Fences{false, true}, {true, false}}) {
    arrived = 0;
    expectRace(racesOf(addInLast, dim3(3), 32, 0, numbers, &arrived, &sum, fences), "of another block");
  }
}

TEST("cuda races: a kernel that begins early waits before it reads what the one before writes") {
  int left[32], taken[32];
  int* const numbers = left;
  int* const out = taken;
  for (const bool waitsFirst : {true, false}) {
    launch("a test", fill, dim3(1), 32, nullptr, numbers, 1);
    std::string races;
    try {
      launchEarly("a test", copyEarly, dim3(1), 32, 0, nullptr, numbers, out, waitsFirst);
    } catch (const Error& error) {
      races = error.what();
    }
    if (waitsFirst) {
      expectNone(races);
    } else {
      expectRace(races, "of a kernel before");
    }
  }
}

#endif
