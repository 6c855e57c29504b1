#pragma once

// CUDA on the host, for tests of kernels at tiny sizes: native/cuda/*.cu are compiled by the host's compiler
// with TANDEM_CUDA_EMULATION and find here what kernel.h else takes from CUDA. Blocks run one after another,
// and every thread of a block is a fiber, so barriers, shuffles and tensor-core products mean what they do on
// the device. Threads of every second block run in descending order, and what these begin, copies and
// products, is done when it is waited for instead of at once, so that what works by luck of the order works
// in half of the cases only. Races are looked for (cuda-races.h). Memory spaces are not seen;
// compute-sanitizer sees those.

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <type_traits>

#include "core/bf16.h"
#include "core/error.h"
#include "cuda-races.h"
#include "cuda/stream.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) uint2 {
  std::uint32_t x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(std::uint32_t x, std::uint32_t y) { return {x, y}; }
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}

// Constant to begin with: what is made at its first use is asked at each use whether it has been.
inline constinit thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace tandem::emulation {

// Whether launches on the stream are recorded (cuda/runtime.h) instead of run, and how one is.
bool isRecording(cuda::Stream stream);
void record(cuda::Stream stream, std::function<void()> launch);

// Whether launches wait for the device (cuda-emulated-runtime.h), and how one does.
bool isBusy();
void enqueue(const char* kernel, std::function<void()> launch);

// Runs `body`, which is of `kernel`, for every thread of the grid. Throws Error if threads wait for each
// other for ever or race, or, of a kernel that begins early, if a block ends without having waited for the
// kernels before.
void run(dim3 grid, unsigned threads, const std::function<void()>& body, std::size_t sharedBytes,
         const void* kernel, bool early);

void noteWaitForKernels();

// Of the block that runs: NaNs where it has written nothing.
std::byte* dynamicShared();

// Copies of 16 bytes, zeros where `global` is null, and groups of them: cp.async of the thread.
void copyAsync(void* shared, const void* global);
void endCopyGroup();
void waitForCopies(int left);

// The same of products of a warpgroup (cuda-emulated-wgmma.h), of which a thread computes what it has.
struct Product {
  float* sums;
  int eights;
  std::array<std::uint32_t, 4> registers;
  std::uintptr_t a, b;  // operands; `a` is 0 where it lies in registers
  bool adds;

  void compute() const;
};
void beginProduct(const Product& product);
void endProductGroup();
void waitForProducts(int left);

// For a thread that waits for what others of its block will do. It is an error if none does anything for
// long.
void letOthersRun();
void noteProgress();

void waitForBlock();
void waitForWarp();

inline constexpr unsigned kWarp = 32;
inline unsigned laneIndex() { return threadIdx.x % kWarp; }

// What a lane shows to its warp.
struct alignas(64) Shown {
  std::byte bytes[64];
};

// Where this thread's warp shows each other [kWarp] what it exchanges next. Two places take turns: who comes
// to one of them again has met all the others in the exchange between, so they have read what it showed
// there.
Shown* beginExchange();

// Shows `mine` to the other lanes of this thread's warp; `read` sees what each of them shows.
template <class T, class Read>
TANDEM_UNSEEN auto exchange(const T& mine, Read read) {
  static_assert(sizeof(T) <= sizeof(Shown) && std::is_trivially_copyable_v<T>);
  Shown* shown = beginExchange();
  std::memcpy(shown + laneIndex(), &mine, sizeof mine);
  waitForWarp();
  return read([shown](unsigned lane) TANDEM_UNSEEN -> const T& {
    return *std::launder(reinterpret_cast<const T*>(shown + lane));
  });
}

}  // namespace tandem::emulation

inline void __syncthreads() { tandem::emulation::waitForBlock(); }
inline void __syncwarp(unsigned = ~0u) {
  tandem::emulation::waitForWarp();
  tandem::emulation::races::meetWarp();
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const unsigned other = tandem::emulation::laneIndex() ^ static_cast<unsigned>(mask);
  return tandem::emulation::exchange(value, [other](auto of) { return of(other); });
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

inline bool __any_sync(unsigned, bool mine) {
  return tandem::emulation::exchange(mine, [](auto of) {
    for (unsigned lane = 0; lane < 32; ++lane) {
      if (of(lane)) return true;
    }
    return false;
  });
}

template <class T>
T __shfl_up_sync(unsigned, T value, unsigned lanes) {
  const unsigned mine = tandem::emulation::laneIndex();
  return tandem::emulation::exchange(
      value, [other = mine < lanes ? mine : mine - lanes](auto of) { return of(other); });
}

inline std::uint32_t __reduce_max_sync(unsigned, std::uint32_t value) {
  return tandem::emulation::exchange(value, [](auto of) {
    std::uint32_t highest = 0;
    for (unsigned lane = 0; lane < 32; ++lane) highest = of(lane) > highest ? of(lane) : highest;
    return highest;
  });
}

inline std::uint32_t __reduce_add_sync(unsigned, std::uint32_t value) {
  return tandem::emulation::exchange(value, [](auto of) {
    std::uint32_t sum = 0;
    for (unsigned lane = 0; lane < 32; ++lane) sum += of(lane);
    return sum;
  });
}

inline std::uint32_t __ballot_sync(unsigned, bool mine) {
  return tandem::emulation::exchange(mine, [](auto of) {
    std::uint32_t all = 0;
    for (unsigned lane = 0; lane < 32; ++lane) all |= std::uint32_t{of(lane)} << lane;
    return all;
  });
}

// Fibers change places at barriers and shuffles only.
template <class T>
TANDEM_UNSEEN T atomicAdd(T* sum, T value) {
  using namespace tandem::emulation;
  races::access(races::By::thread, races::Does::atomic, sum, sizeof *sum, __builtin_return_address(0));
  const T before = *sum;
  *sum += value;
  return before;
}
inline void __threadfence() { tandem::emulation::races::fenceThread(); }

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return tandem::emulation::exchange(value, [lane](auto of) { return of(static_cast<unsigned>(lane) % 32); });
}

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float a) { return 1 / a; }
// Float32 sums and products of which double holds all that can matter: cut off, not rounded.
inline float __fmaf_rz(float a, float b, float c) {
  const double exact = std::fma(double{a}, double{b}, double{c});
  const auto nearest = static_cast<float>(exact);
  return std::abs(double{nearest}) > std::abs(exact) ? std::nextafter(nearest, 0.0f) : nearest;
}
inline float __fadd_rz(float a, float b) { return __fmaf_rz(a, 1, b); }
// Not a number becomes 0.
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }

inline std::uint64_t __umul64hi(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(static_cast<Wide>(a) * b >> 64);
}

inline float __uint_as_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
inline std::uint32_t __float_as_uint(float value) { return std::bit_cast<std::uint32_t>(value); }

inline int __popc(std::uint32_t bits) { return std::popcount(bits); }

inline std::uint32_t __funnelshift_r(std::uint32_t low, std::uint32_t high, std::uint32_t bits) {
  return static_cast<std::uint32_t>((std::uint64_t{high} << 32 | low) >> bits % 32);
}

inline std::uint32_t __byte_perm(std::uint32_t x, std::uint32_t y, std::uint32_t selector) {
  const std::uint64_t bytes = std::uint64_t{y} << 32 | x;
  std::uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t byte = bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff;
    result |= static_cast<std::uint32_t>(byte) << (8 * i);
  }
  return result;
}

namespace tandem::cuda {

template <class... Parameters, class... Arguments>
void enqueue(bool early, const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
             std::size_t sharedBytes, Stream stream, const Arguments&... arguments) {
  // Arguments are the kernel's own copies from here on, as on the device.
  const auto launch = [=] {
    emulation::run(
        grid, threads, [&] { kernel(arguments...); }, sharedBytes, reinterpret_cast<const void*>(kernel),
        early);
  };
  if (emulation::isRecording(stream)) {
    emulation::record(stream, launch);
  } else if (emulation::isBusy()) {
    emulation::enqueue(name, launch);
  } else {
    launch();
  }
}
template <class... Parameters, class... Arguments>
void launchShared(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
                  std::size_t sharedBytes, Stream stream, const Arguments&... arguments) {
  enqueue(false, name, kernel, grid, threads, sharedBytes, stream, arguments...);
}
template <class... Parameters, class... Arguments>
void launchEarly(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
                 std::size_t sharedBytes, Stream stream, const Arguments&... arguments) {
  enqueue(true, name, kernel, grid, threads, sharedBytes, stream, arguments...);
}
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream stream,
            const Arguments&... arguments) {
  launchShared(name, kernel, grid, threads, 0, stream, arguments...);
}

inline void waitForKernelsBefore() {
  emulation::noteWaitForKernels();
  emulation::races::waitForKernelsBefore();
}
inline void letNextKernelBegin() { emulation::races::letNextKernelBegin(); }

inline std::byte* dynamicShared() { return emulation::dynamicShared(); }

inline std::uint32_t packBf16(float low, float high) {
  return toBf16(low) | static_cast<std::uint32_t>(toBf16(high)) << 16;
}

inline float maxOrNan(float a, float b) { return a != a || a > b ? a : b; }

inline std::uint32_t fmaBf16(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  const auto half = [](std::uint32_t pair, int i) {
    return double{toFloat(static_cast<bf16>(pair >> (16 * i)))};
  };
  const auto fma = [&](int i) { return static_cast<float>(half(a, i) * half(b, i) + half(c, i)); };
  return packBf16(fma(0), fma(1));
}

inline std::uint32_t maxBf16(std::uint32_t a, std::uint32_t b) {
  const auto higher = [&](int shift) {
    const float x = toFloat(static_cast<bf16>(a >> shift)), y = toFloat(static_cast<bf16>(b >> shift));
    if (x != x || y != y) return std::uint32_t{0x7fff} << shift;
    return std::uint32_t{toBf16(x > y ? x : y)} << shift;
  };
  return higher(0) | higher(16);
}
inline std::uint32_t minBf16(std::uint32_t a, std::uint32_t b) {
  constexpr std::uint32_t kSigns = 0x80008000u;
  return maxBf16(a ^ kSigns, b ^ kSigns) ^ kSigns;
}
inline std::uint32_t maskedBehind(std::uint32_t bits, std::uint32_t mask, std::uint32_t others) {
  return (bits & mask) | others;
}

inline float exp2Fast(float x) { return x < -126 ? 0 : std::exp2(x); }

void multiplyTiles(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);

inline std::uint32_t transposeMatrix(std::uint32_t pair) {
  const unsigned g = emulation::laneIndex() / 4, t = emulation::laneIndex() % 4;
  return emulation::exchange(pair, [&](auto of) {
    const auto element = [&](unsigned row) { return of(4 * row + g / 2) >> (16 * (g % 2)) & 0xffffu; };
    return element(2 * t) | element(2 * t + 1) << 16;
  });
}

inline int computedAnew(int value) { return value; }
template <class T>
T* computedAnew(T* address) {
  return address;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
inline int keptByWarp(int value) { return __shfl_sync(~0u, value, 0); }
inline std::byte* keptByWarp(std::byte* shared) { return shared; }

template <class Words>
void loadOnce(Words& value, const Words* address, bool wanted) {
  if (wanted) value = *address;
}

TANDEM_UNSEEN inline void copyAsyncOrZero(void* shared, const void* global, bool there,
                                          const void* site = __builtin_return_address(0)) {
  using namespace emulation::races;
  access(By::copies, Does::write, shared, 16, site);
  if (there) access(By::copies, Does::read, global, 16, site);
  emulation::copyAsync(shared, there ? global : nullptr);
}
TANDEM_UNSEEN inline void copyAsync(void* shared, const void* global) {
  copyAsyncOrZero(shared, global, true, __builtin_return_address(0));
}
inline void endCopyGroup() {
  emulation::races::endGroup(emulation::races::By::copies);
  emulation::endCopyGroup();
}
template <int kLeft>
void waitForCopies() {
  emulation::races::waitForGroups(emulation::races::By::copies, kLeft);
  emulation::waitForCopies(kLeft);
}

inline void loadMatrices(std::uint32_t (&matrices)[4], const void* row) {
  struct Words {
    std::uint32_t of[4];
  };
  const unsigned lane = emulation::laneIndex();
  const Words words = emulation::exchange(row, [lane](auto of) {
    Words result;
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      const auto* source = static_cast<const std::byte*>(of(8 * matrix + lane / 4));
      std::memcpy(&result.of[matrix], source + 4 * (lane % 4), 4);
    }
    return result;
  });
  std::memcpy(matrices, words.of, sizeof words.of);
}

}  // namespace tandem::cuda
