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

#include "cuda/attention-order.h"
#include "cuda/page-tiles.h"

namespace tandem::cuda {

// Tokens [begin, end) that a query sees.
struct Visible {
  int begin = 0, end = 0;
};

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
      for (int i = 0; i < 2; ++i) sums_[tile][i] = {};
#pragma unroll
      for (int rows = 0; rows < 2 * kBlocks; ++rows) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out_[rows][tile][i] = 0;
      }
    }
  }

  // A step: `score` of its pages 0 and 1 from their keys in shared memory, `weigh`, `addValues` of both. A
  // page that no query sees is left out.
  __device__ void beginStep() {
#pragma unroll
    for (int page = 0; page < 2; ++page) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
          for (int i = 0; i < 4; ++i) p_[page][m][tile][i] = 0;
        }
      }
    }
  }

  __device__ void score(int page, PrecisionClass precision, const std::byte* slot) {
    withTile<kHeadDim, true>(precision, [&](auto keys) { scoreTile<decltype(keys)>(p_[page], slot); });
  }

  // Scores to probabilities. visible [tiles][2] of the lane's queries counts from the step's first token.
  __device__ void weigh(const Visible (&visible)[kTiles][2]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        SoftmaxSums& sums = sums_[tile][i];
        float highest = sums.highest;
        const auto each = [&](const auto& body) {
#pragma unroll
          for (int k = 0; k < 8; ++k) {
            const int token = kPageTokens * (k / 4) + 4 * g_ + k % 4;
            body(p_[k / 4][k % 4 / 2][tile][2 * (k % 2) + i],
                 token >= visible[tile][i].begin && token < visible[tile][i].end);
          }
        };
        each([&](float score, bool seen) { highest = seen ? fmaxf(highest, score) : highest; });
        highest = highestOfClasses(highest);
        const float factor = exp2Fast(sums.highest - highest);
        sums.highest = highest;
        sums.sum = __fmul_rn(sums.sum, factor);
        sums.middle = __fmul_rn(sums.middle, factor);
        each([&](float& score, bool seen) {
          score = seen ? exp2Fast(score - highest) : 0;
          sums.sum += score;
        });
#pragma unroll
        for (int rows = 0; rows < 2 * kBlocks; ++rows) {
          out_[rows][tile][i] = __fmul_rn(out_[rows][tile][i], factor);
          out_[rows][tile][2 + i] = __fmul_rn(out_[rows][tile][2 + i], factor);
        }
      }
    }
  }

  __device__ void addValues(int page, PrecisionClass precision, const std::byte* slot) {
    withTile<kHeadDim, false>(precision, [&](auto values) { addTile<decltype(values)>(p_[page], slot); });
  }

  // The run's sums of a query of this lane's. The whole warp together.
  __device__ SoftmaxSums endRun(int tile, int i) const {
    SoftmaxSums sums = sums_[tile][i];
    sums.sum = overClasses(sums.sum);
    sums.middle = overClasses(sums.middle);
    return sums;
  }

  // The four neighbouring channels from `channelOf(block)` on of a query of this lane's.
  __device__ int channelOf(int block) const { return 32 * block + 4 * g_; }
  __device__ float out(int tile, int i, int block, int channel) const {
    return out_[2 * block + channel / 2][tile][2 * (channel % 2) + i];
  }

 private:
  __device__ static float overClasses(float value) {
    for (int lanes = 4; lanes < 32; lanes *= 2) value += __shfl_xor_sync(kWholeWarp, value, lanes);
    return value;
  }
  __device__ static float highestOfClasses(float value) {
    for (int lanes = 4; lanes < 32; lanes *= 2) {
      value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, lanes));
    }
    return value;
  }

  template <class Keys>
  __device__ void scoreTile(float (&scores)[2][kTiles][4], const std::byte* slot) {
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      std::uint32_t low[4], high[4];
      Keys::loadKeys(low, high, slot, depth, g_, t_);
      uint2 queries[kTiles];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if constexpr (kPlace == QueryPlace::registers) {
          queries[tile] = q_[tile][depth];
        } else {
          queries[tile] = shared_[32 * (tile * kDepths + depth)];
        }
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t rows[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          multiplyTiles(scores[m][tile], rows, queries[tile].x, queries[tile].y);
        }
      }
    }
    float scales[4] = {scale_, scale_, scale_, scale_};
    if constexpr (Keys::kScaledTokens) {
      Keys::loadScales(scales, slot, g_);
#pragma unroll
      for (int token = 0; token < 4; ++token) scales[token] = __fmul_rn(scale_, scales[token]);
    }
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[m][tile][i] = __fmul_rn(scores[m][tile][i], scales[2 * m + i / 2]);
      }
    }
  }

  template <class Values>
  __device__ void addTile(float (&p)[2][kTiles][4], const std::byte* slot) {
    if constexpr (Values::kMiddles) {
      float middles[4];
      Values::loadMiddles(middles, slot, g_);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          float& middle = sums_[tile][k % 2].middle;
          middle = __fmaf_rn(p[k / 4][tile][k % 4], middles[k / 2], middle);
        }
      }
    }
    if constexpr (Values::kScaledTokens) {
      float scales[4];
      Values::loadScales(scales, slot, g_);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int k = 0; k < 8; ++k) p[k / 4][tile][k % 4] *= scales[k / 2];
      }
    }
    std::uint32_t weights[2][kTiles][2];
    transpose(weights, p);
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
            multiplyTiles(out_[2 * block + i][tile], rows, weights[m][tile][0], weights[m][tile][1]);
          }
        }
      }
    }
  }

  // From a lane's own tokens of two queries to pairs of tokens of one: the operands of the second product.
  __device__ static void transpose(std::uint32_t (&weights)[2][kTiles][2], const float (&p)[2][kTiles][4]) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const float(&mine)[4] = p[m][tile];
        const std::uint32_t even = transposeMatrix(packBf16(mine[0], mine[1]));
        const std::uint32_t odd = transposeMatrix(packBf16(mine[2], mine[3]));
        weights[m][tile][0] = __byte_perm(even, odd, 0x5410);
        weights[m][tile][1] = __byte_perm(even, odd, 0x7632);
      }
    }
  }

  const int g_, t_;
  const float scale_;
  uint2* const shared_;
  uint2 q_[kTiles][kDepths];  // unless shared
  float out_[2 * kBlocks][kTiles][4];
  float p_[2][2][kTiles][4];     // of the step's pages and their tiles: scores, then probabilities
  SoftmaxSums sums_[kTiles][2];  // of the lane's own class
};

}  // namespace tandem::cuda
