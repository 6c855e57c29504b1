// Reads x (and delta) once and writes out (and x) once: 4 bytes an element, 8 with delta, and the gains,
// which stay in L2. 4 FLOP an element.

#include "cuda/rms-norm.h"

#include "core/error.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kWidth = 8;                   // elements of a 16-byte access
constexpr int kStride = kThreads * kWidth;  // elements of one access of the block
constexpr int kAccesses = 8;                // a row stays in registers between its sum and its use
constexpr int kMaxCols = kAccesses * kStride;

struct Row8 {
  std::uint32_t pairs[4];
};

__device__ Row8 load(const bf16* address) {
  const uint4 words = *reinterpret_cast<const uint4*>(address);
  return {{words.x, words.y, words.z, words.w}};
}

__device__ void store(bf16* address, const Row8& row) {
  *reinterpret_cast<uint4*>(address) = make_uint4(row.pairs[0], row.pairs[1], row.pairs[2], row.pairs[3]);
}

template <bool kDelta>
__global__ void __launch_bounds__(kThreads) normRow(const RmsNorm norm) {
  letNextKernelBegin();
  bf16* x = norm.x + blockIdx.x * static_cast<std::int64_t>(norm.cols);
  const bf16* delta = norm.delta + blockIdx.x * static_cast<std::int64_t>(norm.cols);
  bf16* out = norm.out + blockIdx.x * static_cast<std::int64_t>(norm.cols);
  const int first = static_cast<int>(threadIdx.x) * kWidth;

  Row8 held[kAccesses];
  float squares = 0;
#pragma unroll
  for (int access = 0; access < kAccesses; ++access) {
    const int col = first + access * kStride;
    if (col >= norm.cols) continue;
    Row8& row = held[access];
    row = load(x + col);
    if (kDelta) {
      const Row8 added = load(delta + col);
      for (int i = 0; i < 4; ++i) {
        row.pairs[i] = packBf16(lowFloat(row.pairs[i]) + lowFloat(added.pairs[i]),
                                highFloat(row.pairs[i]) + highFloat(added.pairs[i]));
      }
      store(x + col, row);
    }
    for (int i = 0; i < 4; ++i) {
      squares += lowFloat(row.pairs[i]) * lowFloat(row.pairs[i]);
      squares += highFloat(row.pairs[i]) * highFloat(row.pairs[i]);
    }
  }

  __shared__ float sums[kWarps];
  squares = warpSum(squares);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += sums[warp];
  const float inverse = 1 / sqrtf(total / static_cast<float>(norm.cols) + norm.eps);

#pragma unroll
  for (int access = 0; access < kAccesses; ++access) {
    const int col = first + access * kStride;
    if (col >= norm.cols) continue;
    Row8& row = held[access];
    for (int i = 0; i < 4; ++i) {
      const float low = lowFloat(row.pairs[i]) * inverse * norm.gain[col + 2 * i];
      const float high = highFloat(row.pairs[i]) * inverse * norm.gain[col + 2 * i + 1];
      row.pairs[i] = packBf16(low, high);
    }
    store(out + col, row);
  }
}

}  // namespace

void rmsNorm(const RmsNorm& norm, Stream stream) {
  check(norm.cols > 0 && norm.cols % kWidth == 0 && norm.cols <= kMaxCols,
        "rmsNorm supports rows of a multiple of 8 up to 16384");
  if (norm.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(norm.rows));
  launch("rmsNorm", norm.delta ? normRow<true> : normRow<false>, grid, kThreads, stream, norm);
}

}  // namespace tandem::cuda
