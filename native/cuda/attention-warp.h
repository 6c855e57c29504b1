#pragma once

// Attention of up to 16 queries over pages in one warp: the queries are the columns of the tensor cores'
// products, the pages are the rows, and nothing is shared with other warps.
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
#include "cuda/bf16-pair.h"
#include "cuda/page-tables.h"

namespace tandem::cuda {

// Tokens [begin, end) that a query sees.
struct Visible {
  int begin = 0, end = 0;
};

// Four pairs side by side in a tile of bf16 or int8, as bf16.
template <PrecisionClass kPrecision>
__device__ inline void loadPairs(std::uint32_t (&pairs)[4], const std::byte* tile, int pair) {
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

// kTiles tiles of eight queries.
template <int kHeadDim, int kTiles>
class WarpAttention {
 public:
  static constexpr int kBlocks = kHeadDim / 32;
  static constexpr int kQueries = 8 * kTiles;

  // queryOf(i): the head of query i, or null where there is none.
  template <class QueryOf>
  __device__ WarpAttention(int lane, float scale, const QueryOf& queryOf)
      : g_(lane / 4), t_(lane % 4), scale_(scale) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const bf16* query = queryOf(8 * tile + g_);
#pragma unroll
      for (int depth = 0; depth < kHeadDim / 16; ++depth) {
        const uint2 words =
            query ? *reinterpret_cast<const uint2*>(query + 16 * depth + 4 * t_) : make_uint2(0, 0);
        q_[tile][depth][0] = words.x;
        q_[tile][depth][1] = words.y;
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

  // Attends to a step's pages, of which one that no query sees is 0. visible [tiles][2] of the lane's queries
  // counts from the first page's first token.
  __device__ void step(const PageFormat& format, int kvHead, std::uint64_t first, std::uint64_t second,
                       const Visible (&visible)[kTiles][2]) {
    float p[2][2][kTiles][4] = {};
    if (first) score(p[0], format, kvHead, first);
    if (second) score(p[1], format, kvHead, second);
    std::uint32_t weights[2][2][kTiles][2];
    weigh(p, visible);
    if (first) scaleByTokens(p[0], format, kvHead, first);
    if (second) scaleByTokens(p[1], format, kvHead, second);
    transpose(weights, p);
    if (first) addValues(weights[0], format, kvHead, first);
    if (second) addValues(weights[1], format, kvHead, second);
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

  template <PrecisionClass kPrecision>
  __device__ void scoreClass(float (&scores)[2][kTiles][4], const PageFormat& format, const std::byte* keys) {
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      std::uint32_t low[4], high[4];
      loadPairs<kPrecision>(low, keys, (8 * depth + 2 * t_) * kPageTokens + 4 * g_);
      loadPairs<kPrecision>(high, keys, (8 * depth + 2 * t_ + 1) * kPageTokens + 4 * g_);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t rows[4] = {low[2 * m], low[2 * m + 1], high[2 * m], high[2 * m + 1]};
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          multiplyTiles(scores[m][tile], rows, q_[tile][depth][0], q_[tile][depth][1]);
        }
      }
    }
    float scales[4] = {scale_, scale_, scale_, scale_};
    if constexpr (kPrecision == PrecisionClass::int8) {
      const auto* ofTokens = reinterpret_cast<const float*>(keys + 2 * format.tileBytes()) + 4 * g_;
      for (int token = 0; token < 4; ++token) scales[token] = __fmul_rn(scale_, ofTokens[token]);
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

  __device__ void score(float (&scores)[2][kTiles][4], const PageFormat& format, int kvHead,
                        std::uint64_t entry) {
    const PageFormat here = format.in(PageTables::classOf(entry));
    const std::byte* keys = PageTables::pageOf(entry) + here.keys(kvHead);
    if (here.precision == PrecisionClass::bf16) {
      scoreClass<PrecisionClass::bf16>(scores, here, keys);
    } else {
      scoreClass<PrecisionClass::int8>(scores, here, keys);
    }
  }

  // Scores to probabilities.
  __device__ void weigh(float (&p)[2][2][kTiles][4], const Visible (&visible)[kTiles][2]) {
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
            body(p[k / 4][k % 4 / 2][tile][2 * (k % 2) + i],
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

  // Probabilities times what the values of each token are to be multiplied with.
  __device__ void scaleByTokens(float (&p)[2][kTiles][4], const PageFormat& format, int kvHead,
                                std::uint64_t entry) {
    const PageFormat here = format.in(PageTables::classOf(entry));
    if (here.precision == PrecisionClass::bf16) return;
    const auto* scales =
        reinterpret_cast<const float*>(PageTables::pageOf(entry) + here.valueScales(kvHead)) + 4 * g_;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int k = 0; k < 8; ++k) p[k / 4][tile][k % 4] *= scales[2 * (k / 4) + k % 4 / 2];
    }
  }

  // From a lane's own tokens of two queries to pairs of tokens of one: the operands of the second product.
  __device__ static void transpose(std::uint32_t (&weights)[2][2][kTiles][2],
                                   const float (&p)[2][2][kTiles][4]) {
#pragma unroll
    for (int page = 0; page < 2; ++page) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const float(&mine)[4] = p[page][m][tile];
          const std::uint32_t even = transposeMatrix(packBf16(mine[0], mine[1]));
          const std::uint32_t odd = transposeMatrix(packBf16(mine[2], mine[3]));
          weights[page][m][tile][0] = __byte_perm(even, odd, 0x5410);
          weights[page][m][tile][1] = __byte_perm(even, odd, 0x7632);
        }
      }
    }
  }

  template <PrecisionClass kPrecision>
  __device__ void addClass(const std::uint32_t (&weights)[2][kTiles][2], const std::byte* values) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        std::uint32_t low[4], high[4];
        loadPairs<kPrecision>(low, values, (4 * t_ + m) * kHeadDim + 32 * block + 4 * g_);
        loadPairs<kPrecision>(high, values, (4 * t_ + 2 + m) * kHeadDim + 32 * block + 4 * g_);
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

  __device__ void addValues(const std::uint32_t (&weights)[2][kTiles][2], const PageFormat& format,
                            int kvHead, std::uint64_t entry) {
    const PageFormat here = format.in(PageTables::classOf(entry));
    const std::byte* values = PageTables::pageOf(entry) + here.values(kvHead);
    if (here.precision == PrecisionClass::bf16) {
      addClass<PrecisionClass::bf16>(weights, values);
    } else {
      addClass<PrecisionClass::int8>(weights, values);
    }
  }

  const int g_, t_;
  const float scale_;
  std::uint32_t q_[kTiles][kHeadDim / 16][2];
  float out_[2 * kBlocks][kTiles][4];
  SoftmaxSums sums_[kTiles][2];  // of the lane's own class
};

}  // namespace tandem::cuda
