// Reads q, k and v once, writes q, and k and v in the page's class: 6 (bf16) or 5 (int8) bytes an element of
// k and v, 4 of q. A token's keys lie 128 (int8: 64) bytes apart, each in a sector of its own, so K costs L2
// eight times its bytes; attention reads a page thousands of times for each time it is written.

#include "cuda/append-kv.h"

#include "core/error.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kMostPairs = kMaxHeadDim / 4 / 32;  // pairs of channels of a half head, a lane
constexpr int kThreads = 128;

// A head as a lane holds it: channels c, c + 1 and their partners in the other half, for c = 2 * lane + 64 *
// i.
struct Head {
  float first[kMostPairs][2];
  float second[kMostPairs][2];
};

__device__ int channelOf(int pair) { return 2 * static_cast<int>(threadIdx.x % 32) + 64 * pair; }

__device__ Head loadHead(const bf16* head, int half) {
  Head values{};
#pragma unroll
  for (int i = 0; i < kMostPairs; ++i) {
    const int channel = channelOf(i);
    if (channel >= half) continue;
    const auto a = *reinterpret_cast<const std::uint32_t*>(head + channel);
    const auto b = *reinterpret_cast<const std::uint32_t*>(head + half + channel);
    values.first[i][0] = lowFloat(a);
    values.first[i][1] = highFloat(a);
    values.second[i][0] = lowFloat(b);
    values.second[i][1] = highFloat(b);
  }
  return values;
}

__device__ void normalize(Head& head, const float* gain, float eps, int half) {
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kMostPairs; ++i) {
    for (int k = 0; k < 2; ++k) {
      squares += head.first[i][k] * head.first[i][k] + head.second[i][k] * head.second[i][k];
    }
  }
  const float inverse = 1 / sqrtf(warpSum(squares) / static_cast<float>(2 * half) + eps);
#pragma unroll
  for (int i = 0; i < kMostPairs; ++i) {
    const int channel = channelOf(i);
    if (channel >= half) continue;
    for (int k = 0; k < 2; ++k) {
      head.first[i][k] *= inverse * gain[channel + k];
      head.second[i][k] *= inverse * gain[half + channel + k];
    }
  }
}

__device__ void rotate(Head& head, const float* cosines, int half) {
  const float* sines = cosines + half;
#pragma unroll
  for (int i = 0; i < kMostPairs; ++i) {
    const int channel = channelOf(i);
    if (channel >= half) continue;
    for (int k = 0; k < 2; ++k) {
      const float a = head.first[i][k], b = head.second[i][k];
      const float cosine = cosines[channel + k], sine = sines[channel + k];
      head.first[i][k] = a * cosine - b * sine;
      head.second[i][k] = b * cosine + a * sine;
    }
  }
}

__device__ void storeHead(const Head& head, bf16* out, int half) {
#pragma unroll
  for (int i = 0; i < kMostPairs; ++i) {
    const int channel = channelOf(i);
    if (channel >= half) continue;
    *reinterpret_cast<std::uint32_t*>(out + channel) = packBf16(head.first[i][0], head.first[i][1]);
    *reinterpret_cast<std::uint32_t*>(out + half + channel) = packBf16(head.second[i][0], head.second[i][1]);
  }
}

// The step of a symmetric quantization to -127..127.
__device__ float scaleOf(const Head& head) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kMostPairs; ++i) {
    for (int k = 0; k < 2; ++k) {
      largest = fmaxf(largest, fmaxf(fabsf(head.first[i][k]), fabsf(head.second[i][k])));
    }
  }
  return warpMax(largest) / 127;
}

__device__ std::int8_t codeOf(float value, float inverseScale) {
  const float code = rintf(value * inverseScale);
  // A NaN has no integer: it becomes 0, as the CPU makes it.
  return code >= -127 && code <= 127 ? static_cast<std::int8_t>(code) : std::int8_t{0};
}

template <class Write>
__device__ void eachElement(const Head& head, int half, const Write& write) {
#pragma unroll
  for (int i = 0; i < kMostPairs; ++i) {
    const int channel = channelOf(i);
    if (channel >= half) continue;
    for (int k = 0; k < 2; ++k) {
      write(channel + k, head.first[i][k]);
      write(half + channel + k, head.second[i][k]);
    }
  }
}

__device__ void storeKeys(const Head& head, const PageFormat& format, std::byte* page, int kvHead,
                          int token) {
  const int half = format.headDim / 2;
  if (format.precision == PrecisionClass::bf16) {
    auto* keys = reinterpret_cast<bf16*>(page + format.keys(kvHead));
#pragma unroll
    for (int i = 0; i < kMostPairs; ++i) {
      const int channel = channelOf(i);
      if (channel >= half) continue;
      const auto put = [&](int at, float even, float odd) {
        *reinterpret_cast<std::uint32_t*>(keys + PageFormat::keyIndex(token, at)) = packBf16(even, odd);
      };
      put(channel, head.first[i][0], head.first[i][1]);
      put(half + channel, head.second[i][0], head.second[i][1]);
    }
    return;
  }
  const float scale = scaleOf(head), inverse = scale > 0 ? 1 / scale : 0;
  auto* keys = reinterpret_cast<std::int8_t*>(page + format.keys(kvHead));
  eachElement(head, half, [&](int channel, float value) {
    keys[PageFormat::keyIndex(token, channel)] = codeOf(value, inverse);
  });
  if (threadIdx.x % 32 == 0) reinterpret_cast<float*>(page + format.keyScales(kvHead))[token] = scale;
}

__device__ void storeValues(const Head& head, const PageFormat& format, std::byte* page, int kvHead,
                            int token) {
  const int half = format.headDim / 2;
  if (format.precision == PrecisionClass::bf16) {
    auto* values = reinterpret_cast<bf16*>(page + format.values(kvHead));
    eachElement(head, half, [&](int channel, float value) {
      values[format.valueIndex(token, channel)] = roundToBf16(value);
    });
    return;
  }
  const float scale = scaleOf(head), inverse = scale > 0 ? 1 / scale : 0;
  auto* values = reinterpret_cast<std::int8_t*>(page + format.values(kvHead));
  eachElement(head, half, [&](int channel, float value) {
    values[format.valueIndex(token, channel)] = codeOf(value, inverse);
  });
  if (threadIdx.x % 32 == 0) reinterpret_cast<float*>(page + format.valueScales(kvHead))[token] = scale;
}

// A block is a piece and a head; a warp takes a token at a time.
__global__ void __launch_bounds__(kThreads) appendPiece(const AppendKv problem) {
  const KvPiece piece = problem.pieces[blockIdx.x];
  const PageFormat format = problem.tables.formatOf(piece.sequence, piece.page);
  const int head = static_cast<int>(blockIdx.y), kvHead = head - problem.heads;
  const int headDim = format.headDim, half = headDim / 2;
  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * headDim;
  const int warps = static_cast<int>(blockDim.x) / 32;

  std::byte* page = nullptr;
  if (kvHead >= 0) {
    page = problem.tables.page(piece.sequence, piece.page);
    if (piece.token == 0) {
      auto* block = reinterpret_cast<uint4*>(page + format.keys(kvHead));
      for (unsigned i = threadIdx.x; i < format.headBytes() / sizeof(uint4); i += blockDim.x) {
        block[i] = make_uint4(0, 0, 0, 0);
      }
      __syncthreads();
    }
  }
  for (int i = static_cast<int>(threadIdx.x) / 32; i < piece.count; i += warps) {
    const std::int64_t row = piece.row + i;
    bf16* qOrK = problem.qkv + row * cols + static_cast<std::int64_t>(head) * headDim;
    Head values = loadHead(qOrK, half);
    const float* gain = kvHead < 0 ? problem.qGain : problem.kGain;
    if (gain) normalize(values, gain, problem.eps, half);
    rotate(values, problem.angles + row * headDim, half);
    if (kvHead < 0) {
      storeHead(values, qOrK, half);
      continue;
    }
    storeKeys(values, format, page, kvHead, piece.token + i);
    const bf16* v = qOrK + static_cast<std::int64_t>(format.kvHeads) * headDim;
    storeValues(loadHead(v, half), format, page, kvHead, piece.token + i);
  }
}

}  // namespace

void appendKv(const AppendKv& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(format.precision == PrecisionClass::bf16 || format.precision == PrecisionClass::int8,
        "appendKv knows pages in bf16 and int8");
  check(format.headDim > 0 && format.headDim % 16 == 0 && format.headDim <= kMaxHeadDim,
        "appendKv supports head dimensions that are multiples of 16 up to 256");
  check(problem.heads > 0 && format.kvHeads > 0, "appendKv: heads and kvHeads must be positive");
  check(problem.longestPiece <= kPageTokens, "appendKv: a piece is longer than a page");
  if (problem.pieceCount == 0) return;
  const dim3 grid(static_cast<unsigned>(problem.pieceCount),
                  static_cast<unsigned>(problem.heads + format.kvHeads));
  // One token a piece, as in decode, leaves no work for further warps.
  const unsigned threads = problem.longestPiece > 1 ? kThreads : 32;
  launch("appendKv", appendPiece, grid, threads, stream, problem);
}

}  // namespace tandem::cuda
