// One block for each sequence, KV head and span of 512 tokens; its four warps take pages in turn. The query
// heads of a group are the rows of one tensor-core tile, so they share every load of a page. Spans are merged
// by their log-sum-exp in a second kernel, where there are several.
//
// Bytes: each page once (bf16 4 * headDim a token and KV head, int8 2 * headDim + 8), and 8 * headDim for
// each head and span of a part that is written and read again: below 2% of a bf16 span. FLOP: 4 * headDim a
// token and head; the tile has 16 rows whatever the group is, which tensor cores have to spare: 64 mma a page
// and KV head of 128 channels, 16 KB.

#include "cuda/decode-attention.h"

#include <cmath>

#include "core/error.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kGroupMost = 16;

// Score of a query that has seen nothing: finite, so that the first real one gives the factor 0 and not NaN.
constexpr float kNothingSeen = -1e30f;

constexpr float kLog2E = 1.4426950408889634f;

// Four neighbouring pairs of a page's tile as bf16: the precision class decides how they are loaded.
template <PrecisionClass kPrecision>
__device__ void loadPairs(std::uint32_t (&pairs)[4], const std::byte* tile, int pair) {
  if constexpr (kPrecision == PrecisionClass::bf16) {
    const uint4 words = loadOnce(reinterpret_cast<const uint4*>(tile + 4 * pair));
    pairs[0] = words.x;
    pairs[1] = words.y;
    pairs[2] = words.z;
    pairs[3] = words.w;
  } else {
    const uint2 codes = loadOnce(reinterpret_cast<const uint2*>(tile + 2 * pair));
    pairs[0] = expandCodes<0>(codes.x);
    pairs[1] = expandCodes<1>(codes.x);
    pairs[2] = expandCodes<0>(codes.y);
    pairs[3] = expandCodes<1>(codes.y);
  }
}

// The online softmax of a tile's rows in one warp. Lane (g, t) = (lane / 4, lane % 4) holds rows g and, of a
// group beyond 8, g + 8. Columns of the two products are permuted so that a lane's operands lie side by side:
//   scores  tile j, column c   is token 4 c + j of the page: lane t has the tokens 8 t .. 8 t + 7
//   out     tile (b, j), column c   is channel 32 b + 4 c + j
template <int kHeadDim, PrecisionClass kPrecision, bool kWide>
struct WarpState {
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kBlocks = kHeadDim / 32;
  static constexpr int kHalves = kWide ? 2 : 1;

  std::uint32_t q[kSteps][4];
  float out[kBlocks][4][4];
  float maximum[2];
  float sum[2];

  __device__ void loadQueries(const bf16* heads, int group, int lane) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const int row = g + 8 * (part % 2), channel = 16 * step + 2 * t + 8 * (part / 2);
        const bool there = part % 2 < kHalves && row < group;
        q[step][part] = there ? *reinterpret_cast<const std::uint32_t*>(heads + row * kHeadDim + channel) : 0;
      }
    }
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      for (int tile = 0; tile < 4; ++tile) {
        for (int i = 0; i < 4; ++i) out[block][tile][i] = 0;
      }
    }
    maximum[0] = maximum[1] = kNothingSeen;
    sum[0] = sum[1] = 0;
  }

  // Attends to the tokens [begin, end) of a page, which is at `head`.
  __device__ void attend(const std::byte* head, const PageFormat& format, int begin, int end, float scale,
                         int lane) {
    const int g = lane / 4, t = lane % 4;
    const std::byte* keys = head;
    const std::byte* values = head + format.tileBytes();
    float scores[4][4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t first[4], second[4];
      loadPairs<kPrecision>(first, keys, (8 * step + t) * kPageTokens + 4 * g);
      loadPairs<kPrecision>(second, keys, (8 * step + 4 + t) * kPageTokens + 4 * g);
#pragma unroll
      for (int tile = 0; tile < 4; ++tile) multiplyTiles(scores[tile], q[step], first[tile], second[tile]);
    }

    float keyScales[8], valueScales[8];
    if constexpr (kPrecision == PrecisionClass::int8) {
      const auto* scales = reinterpret_cast<const float*>(values + format.tileElements());
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        keyScales[i] = scales[8 * t + i];
        valueScales[i] = scales[kPageTokens + 8 * t + i];
      }
    }
    std::uint32_t weights[2][4] = {};  // the probabilities as A operands of both halves of the page
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float p[8];
      float highest = maximum[half];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        p[i] = scores[i % 4][2 * half + i / 4] * scale;
        if constexpr (kPrecision == PrecisionClass::int8) p[i] *= keyScales[i];
        const int token = 8 * t + i;
        if (token < begin || token >= end) p[i] = kNothingSeen;
        highest = fmaxf(highest, p[i]);
      }
      highest = fmaxf(highest, __shfl_xor_sync(kWholeWarp, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(kWholeWarp, highest, 2));
      const float factor = exp2Fast(maximum[half] - highest);
      maximum[half] = highest;
      sum[half] *= factor;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        p[i] = exp2Fast(p[i] - highest);
        sum[half] += p[i];
        if constexpr (kPrecision == PrecisionClass::int8) p[i] *= valueScales[i];
      }
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        weights[step][half] = packBf16(p[4 * step], p[4 * step + 1]);
        weights[step][2 + half] = packBf16(p[4 * step + 2], p[4 * step + 3]);
      }
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
        for (int tile = 0; tile < 4; ++tile) {
          out[block][tile][2 * half] *= factor;
          out[block][tile][2 * half + 1] *= factor;
        }
      }
    }

#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        std::uint32_t first[4], second[4];
        const int pair = 4 * t + 2 * step, channel = 32 * block + 4 * g;
        loadPairs<kPrecision>(first, values, pair * kHeadDim + channel);
        loadPairs<kPrecision>(second, values, (pair + 1) * kHeadDim + channel);
#pragma unroll
        for (int tile = 0; tile < 4; ++tile) {
          multiplyTiles(out[block][tile], weights[step], first[tile], second[tile]);
        }
      }
    }
  }
};

// What a span leaves of a head: out, not yet divided by its sum, then the maximum and the sum.
__device__ constexpr std::int64_t partFloats(int headDim) { return headDim + 2; }

struct Seen {
  int begin, end;  // tokens
  __device__ int firstSpan() const { return begin / kAttentionSpan; }
  __device__ int spans() const { return (end - 1) / kAttentionSpan - firstSpan() + 1; }
};

__device__ Seen seenBy(const DecodeAttention& problem, int sequence) {
  const int context = problem.contexts[sequence];
  return {problem.window > 0 && context > problem.window ? context - problem.window : 0, context};
}

template <int kHeadDim, PrecisionClass kPrecision, bool kWide>
__global__ void __launch_bounds__(kThreads) attendSpan(const DecodeAttention problem, float scale) {
  constexpr int kRows = kWide ? 16 : 8;
  using State = WarpState<kHeadDim, kPrecision, kWide>;
  const int span = static_cast<int>(blockIdx.x), kvHead = static_cast<int>(blockIdx.y),
            sequence = static_cast<int>(blockIdx.z);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const PageFormat& format = problem.tables.format;
  const Seen seen = seenBy(problem, sequence);
  const int spanBegin = span * kAttentionSpan, spanEnd = spanBegin + kAttentionSpan;
  const int begin = seen.begin > spanBegin ? seen.begin : spanBegin;
  const int end = seen.end < spanEnd ? seen.end : spanEnd;
  if (begin >= end) return;

  const int group = problem.heads / format.kvHeads;
  const std::int64_t cols = static_cast<std::int64_t>(problem.heads + 2 * format.kvHeads) * kHeadDim;
  State state;
  state.loadQueries(problem.qkv + sequence * cols + static_cast<std::int64_t>(kvHead) * group * kHeadDim,
                    group, lane);
  // A span starts with a page of the first warp, so a window changes no page's warp.
  for (int page = begin / kPageTokens; page * kPageTokens < end; ++page) {
    if (page % kWarps != warp) continue;
    state.attend(problem.tables.page(sequence, page) + format.keys(kvHead), format,
                 begin - page * kPageTokens, end - page * kPageTokens, scale, lane);
  }

  __shared__ float outs[kWarps][kRows][kHeadDim];
  __shared__ float maxima[kWarps][kRows], sums[kWarps][kRows];
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int half = 0; half < State::kHalves; ++half) {
    const int row = g + 8 * half;
    float sum = state.sum[half];
    sum += __shfl_xor_sync(kWholeWarp, sum, 1);
    sum += __shfl_xor_sync(kWholeWarp, sum, 2);
    if (t == 0) {
      maxima[warp][row] = state.maximum[half];
      sums[warp][row] = sum;
    }
#pragma unroll
    for (int block = 0; block < State::kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        outs[warp][row][32 * block + 8 * t + i] = state.out[block][i % 4][2 * half + i / 4];
      }
    }
  }
  __syncthreads();

  const bool whole = seen.spans() == 1;
  const std::int64_t spans = gridDim.x;
  for (int i = static_cast<int>(threadIdx.x); i < group * kHeadDim; i += kThreads) {
    const int row = i / kHeadDim, channel = i % kHeadDim;
    float highest = maxima[0][row], total = 0, out = 0;
    for (int w = 1; w < kWarps; ++w) highest = fmaxf(highest, maxima[w][row]);
    for (int w = 0; w < kWarps; ++w) {
      const float factor = exp2Fast(maxima[w][row] - highest);
      total += factor * sums[w][row];
      out += factor * outs[w][row][channel];
    }
    const std::int64_t head = static_cast<std::int64_t>(sequence) * problem.heads + kvHead * group + row;
    if (whole) {
      problem.out[head * kHeadDim + channel] = roundToBf16(out / total);
      continue;
    }
    float* part = problem.parts + (head * spans + span) * partFloats(kHeadDim);
    part[channel] = out;
    if (channel == 0) {
      part[kHeadDim] = highest;
      part[kHeadDim + 1] = total;
    }
  }
}

// A block is a head of a sequence, a thread a channel.
__global__ void mergeSpans(const DecodeAttention problem, int spans) {
  const int sequence = static_cast<int>(blockIdx.y), headDim = problem.tables.format.headDim;
  const Seen seen = seenBy(problem, sequence);
  if (seen.spans() == 1) return;
  const std::int64_t head = static_cast<std::int64_t>(sequence) * problem.heads + blockIdx.x;
  const float* parts = problem.parts + (head * spans + seen.firstSpan()) * partFloats(headDim);
  float highest = kNothingSeen, total = 0, out = 0;
  for (int i = 0; i < seen.spans(); ++i) {
    const float* part = parts + i * partFloats(headDim);
    const float raised = fmaxf(highest, part[headDim]);
    const float before = exp2Fast(highest - raised), factor = exp2Fast(part[headDim] - raised);
    highest = raised;
    total = before * total + factor * part[headDim + 1];
    out = before * out + factor * part[threadIdx.x];
  }
  problem.out[head * headDim + threadIdx.x] = roundToBf16(out / total);
}

int spansOf(int mostTokens) { return (mostTokens + kAttentionSpan - 1) / kAttentionSpan; }

template <int kHeadDim, PrecisionClass kPrecision>
void attendGroups(const DecodeAttention& problem, dim3 grid, float scale, Stream stream) {
  const bool wide = problem.heads / problem.tables.format.kvHeads > 8;
  launch("decodeAttention",
         wide ? attendSpan<kHeadDim, kPrecision, true> : attendSpan<kHeadDim, kPrecision, false>, grid,
         kThreads, stream, problem, scale);
}

template <int kHeadDim>
void attend(const DecodeAttention& problem, dim3 grid, Stream stream) {
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  if (problem.tables.format.precision == PrecisionClass::bf16) {
    attendGroups<kHeadDim, PrecisionClass::bf16>(problem, grid, scale, stream);
  } else {
    attendGroups<kHeadDim, PrecisionClass::int8>(problem, grid, scale, stream);
  }
}

}  // namespace

std::size_t decodeAttentionScratch(int sequences, int mostTokens, int heads, int headDim) {
  return static_cast<std::size_t>(sequences) * heads * spansOf(mostTokens) * partFloats(headDim) *
         sizeof(float);
}

void decodeAttention(const DecodeAttention& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(format.precision == PrecisionClass::bf16 || format.precision == PrecisionClass::int8,
        "decodeAttention knows pages in bf16 and int8");
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "decodeAttention: heads must be a multiple of kvHeads");
  check(problem.heads / format.kvHeads <= kGroupMost,
        "decodeAttention supports up to 16 query heads for each KV head");
  check(problem.sequences <= 65535, "decodeAttention takes up to 65535 sequences");
  if (problem.sequences == 0 || problem.mostTokens == 0) return;
  const int spans = spansOf(problem.mostTokens);
  const dim3 grid(static_cast<unsigned>(spans), static_cast<unsigned>(format.kvHeads),
                  static_cast<unsigned>(problem.sequences));
  switch (format.headDim) {
    case 32:
      attend<32>(problem, grid, stream);
      break;
    case 64:
      attend<64>(problem, grid, stream);
      break;
    case 96:
      attend<96>(problem, grid, stream);
      break;
    case 128:
      attend<128>(problem, grid, stream);
      break;
    default:
      throw Error("decodeAttention supports head dimensions of 32, 64, 96 and 128, not " +
                  std::to_string(format.headDim));
  }
  if (spans > 1) {
    const dim3 heads(static_cast<unsigned>(problem.heads), static_cast<unsigned>(problem.sequences));
    launch("decodeAttention's merge", mergeSpans, heads, static_cast<unsigned>(format.headDim), stream,
           problem, spans);
  }
}

}  // namespace tandem::cuda
