#pragma once

// Attention of up to 16 queries over pages in one warp: the queries are the columns of the tensor cores'
// products, the pages are the rows.
//
//   scores [tokens, queries] = K [tokens, channels] Qt        out [channels, queries] += Vt [channels,
//   tokens] Pt
//
// With g = lane / 4 and t = lane % 4, rows and depths are permuted so that a lane's 16 bytes of a page are
// four operands:
//
//   scores  tile m of a page, rows g and g + 8   are its tokens 4 g + 2 m and 4 g + 2 m + 1
//           slots 2t, 2t+1 and 2t+8, 2t+9 of depth s   are channels 16 s + 4 t and the three behind it
//   out     tile (b, i), rows g and g + 8        are channels 32 b + 4 g + 2 i and 32 b + 4 g + 2 i + 1
//           slots 2t, 2t+1 and 2t+8, 2t+9 of depth m   are tokens 8 t + 2 m, + 1 and 8 t + 4 + 2 m, + 1 of a
//           page
//   columns 2t and 2t + 1 of a lane              are queries 2t and 2t + 1 of the tile of eight

#include <cmath>

#include "cuda/attention-order.h"
#include "cuda/page-tiles.h"

namespace tandem::cuda {

// Tokens [begin, end) that a query sees.
struct Visible {
  int begin = 0, end = 0;
};

// Over the lanes that hold other tokens of the same query: over the classes of a quarter.
__device__ inline float overClasses(float value) {
  for (int lanes = 4; lanes < 32; lanes *= 2) value += __shfl_xor_sync(kWholeWarp, value, lanes);
  return value;
}
__device__ inline float highestOfClasses(float value) {
  for (int lanes = 4; lanes < 32; lanes *= 2) {
    value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, lanes));
  }
  return value;
}

// A tile of probabilities as operands of the second product: from a lane's two tokens of two queries to pairs
// of tokens of one.
__device__ inline uint2 weightsOf(const float (&p)[4]) {
  const std::uint32_t even = transposeMatrix(packBf16(p[0], p[1]));
  const std::uint32_t odd = transposeMatrix(packBf16(p[2], p[3]));
  return make_uint2(__byte_perm(even, odd, 0x5410), __byte_perm(even, odd, 0x7632));
}

// Where a warp keeps its queries: each lane its own operands in registers, or at `shared`, which has
// sizeof(uint2) * 32 * kTiles * kHeadDim / 16 bytes for the warp.
enum class QueryPlace : std::uint8_t { registers, shared };

// kTiles tiles of eight queries.
template <int kHeadDim, int kTiles, QueryPlace kPlace = QueryPlace::registers>
class WarpAttention {
 public:
  static constexpr int kBlocks = kHeadDim / 32;
  static constexpr int kQueries = 8 * kTiles;

  static constexpr int kDepths = kHeadDim / 16;
  static constexpr int kSharedQueryBytes = 8 * 32 * kTiles * kDepths;

  // queryOf(i): the head of query i, or null where there is none.
  template <class QueryOf>
  __device__ WarpAttention(int lane, float scale, const QueryOf& queryOf, uint2* shared = nullptr)
      : g_(lane / 4), t_(lane % 4), scale_(scale), shared_(shared + lane) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const bf16* query = queryOf(8 * tile + g_);
#pragma unroll
      for (int depth = 0; depth < kDepths; ++depth) {
        const uint2 words =
            query ? *reinterpret_cast<const uint2*>(query + 16 * depth + 4 * t_) : make_uint2(0, 0);
        if constexpr (kPlace == QueryPlace::registers) {
          q_[tile][depth] = words;
        } else {
          shared_[32 * (tile * kDepths + depth)] = words;
        }
      }
    }
  }

  // Query i of the lane's own two of a tile.
  __device__ int queryOf(int tile, int i) const { return 8 * tile + 2 * t_ + i; }

  __device__ void beginRun() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        base_[tile][i] = kNothingSeen;
#pragma unroll
        for (int quarter = 0; quarter < kQuarters; ++quarter) sum_[tile][i][quarter] = 0;
      }
#pragma unroll
      for (int rows = 0; rows < 2 * kBlocks; ++rows) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out_[rows][tile][i] = 0;
      }
    }
  }

  // A step: `score` of its pages 0 and 1 from their keys in shared memory, `weigh`, `addValues` of both. A
  // page that no query sees is left out, and `isThere` is false for it.
  __device__ void beginStep(const bool (&isThere)[2]) {
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      // What is not there is lower than every score, and has the probability zero.
      const float product = isThere[page] ? 0 : -INFINITY;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        scales_[page][m] = {1, 1};
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
          for (int i = 0; i < 4; ++i) p_[page][m][tile][i] = product;
        }
      }
    }
  }

  __device__ void score(int page, PrecisionClass precision, const std::byte* slot) {
    withTile<kHeadDim, true>(precision,
                             [&](auto keys) { scoreTile<decltype(keys)>(p_[page], scales_[page], slot); });
  }

  // Products to probabilities. visible [tiles][2] of the lane's queries counts from the step's first token.
  __device__ void weigh(const Visible (&visible)[kTiles][2]) {
    float factors[kTiles][2];
    bool rose = false;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float highest = kNothingSeen;
        const auto each = [&](const auto& body) {
#pragma unroll
          for (int k = 0; k < 8; ++k) {
            const int token = kPageTokens * (k / 4) + 4 * g_ + k % 4;
            const float2 scales = scales_[k / 4][k % 4 / 2];
            body(p_[k / 4][k % 4 / 2][tile][2 * (k % 2) + i], k % 2 == 0 ? scales.x : scales.y,
                 token >= visible[tile][i].begin && token < visible[tile][i].end);
          }
        };
        each([&](float product, float scale, bool seen) {
          if (seen) highest = fmaxf(highest, __fmul_rn(product, scale));
        });
        highest = highestOfClasses(highest);
        const float base = raisedBase(base_[tile][i], highest);
        const float factor = exp2Fast(base_[tile][i] - base);
        base_[tile][i] = base;
        factors[tile][i] = factor;
        rose |= factor != 1;
        each([&](float& product, float scale, bool seen) {
          product = seen ? probability(product, scale, base) : 0;
        });
#pragma unroll
        for (int quarter = 0; quarter < kQuarters; ++quarter) {
          const float(&p)[4] = p_[quarter / 2][quarter % 2][tile];
          sum_[tile][i][quarter] = __fmaf_rn(sum_[tile][i][quarter], factor, p[i] + p[2 + i]);
        }
      }
    }
    // Bases hardly ever rise after a run's first step.
    if (!__any_sync(kWholeWarp, rose)) return;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int rows = 0; rows < 2 * kBlocks; ++rows) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          out_[rows][tile][i] = __fmul_rn(out_[rows][tile][i], factors[tile][i % 2]);
      }
    }
  }

  __device__ void addValues(int page, PrecisionClass precision, const std::byte* slot) {
    withTile<kHeadDim, false>(precision, [&](auto values) { addTile<decltype(values)>(p_[page], slot); });
  }

  // The run's sums of a query of this lane's. The whole warp together.
  __device__ SoftmaxSums endRun(int tile, int i) const {
    const float(&sum)[kQuarters] = sum_[tile][i];
    return {base_[tile][i],
            overQuarters(overClasses(sum[0]), overClasses(sum[1]), overClasses(sum[2]), overClasses(sum[3]))};
  }

  // The four neighbouring channels from `channelOf(block)` on of a query of this lane's.
  __device__ int channelOf(int block) const { return 32 * block + 4 * g_; }
  __device__ float out(int tile, int i, int block, int channel) const {
    return out_[2 * block + channel / 2][tile][2 * (channel % 2) + i];
  }

 private:
  template <class Keys>
  __device__ void scoreTile(float (&scores)[2][kTiles][4], float2 (&scales)[2], const std::byte* slot) {
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      uint2 queries[kTiles];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if constexpr (kPlace == QueryPlace::registers) {
          queries[tile] = q_[tile][depth];
        } else {
          queries[tile] = shared_[32 * (tile * kDepths + depth)];
        }
      }
      std::uint32_t low[4], high[4];
      Keys::loadKeys(low, high, slot, depth, g_, t_);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t rows[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          multiplyTiles(scores[m][tile], rows, queries[tile].x, queries[tile].y);
        }
      }
    }
    if constexpr (Keys::kScaledTokens) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const float2 ofTokens = Keys::loadScales(slot, m, g_);
        scales[m] = {__fmul_rn(scale_, ofTokens.x), __fmul_rn(scale_, ofTokens.y)};
      }
    } else {
      scales[0] = scales[1] = {scale_, scale_};
    }
  }

  template <class Values>
  __device__ void addTile(float (&p)[2][kTiles][4], const std::byte* slot) {
    if constexpr (Values::kScaledTokens) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const float2 scales = Values::loadScales(slot, m, g_);
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
          for (int i = 0; i < 4; ++i) p[m][tile][i] *= i < 2 ? scales.x : scales.y;
        }
      }
    }
    uint2 weights[2][kTiles];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) weights[m][tile] = weightsOf(p[m][tile]);
    }
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      std::uint32_t words[4][4];
      Values::loadValues(words, slot, block, g_, t_);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t(&low)[4] = words[m], (&high)[4] = words[2 + m];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const std::uint32_t rows[4] = {low[2 * i], low[2 * i + 1], high[2 * i], high[2 * i + 1]};
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) {
            multiplyTiles(out_[2 * block + i][tile], rows, weights[m][tile].x, weights[m][tile].y);
          }
        }
      }
    }
  }

  const int g_, t_;
  const float scale_;
  uint2* const shared_;
  uint2 q_[kTiles][kDepths];  // unless shared
  float out_[2 * kBlocks][kTiles][4];
  float p_[2][2][kTiles][4];  // of the step's pages and their tiles: products, then probabilities
  float2 scales_[2][2];       // of the lane's tokens
  float base_[kTiles][2];
  float sum_[kTiles][2][kQuarters];  // of the lane's own class
};

}  // namespace tandem::cuda
