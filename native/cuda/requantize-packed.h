#pragma once

// A head's keys and values in a packed class. All warps of a block together. A lane has patches of the tile
// of which its words are made, so that codes stay where they are; only what the groups reach goes among
// lanes, each of which then computes the levels of one.

#include <cstddef>
#include <cstdint>

#include "cuda/kernel.h"
#include "cuda/requantize-levels.h"
#include "cuda/requantize-reach.h"
#include "cuda/requantize-source.h"

namespace tandem::cuda::requantization {

// Where a head's keys or values go.
struct Target {
  std::byte *tile, *scales;
};

// Words from one row to the next, which are not to meet in a bank.
inline constexpr int kKeyRow = kPageTokens + 4;
constexpr int valueRow(int pairWords) { return pairWords + 4; }

// What a warp's lanes show each other.
struct alignas(16) Exchange {
  std::uint32_t rows[kRows * valueRow(kMaxHeadDim)];
  Scaling scalings[32];

  __device__ static Exchange& ofWarp() {
    __shared__ Exchange exchanges[kWarps];
    return exchanges[threadIdx.x / 32];
  }
};
static_assert(kRows * valueRow(kMaxHeadDim) >= 4 * kRows * kKeyRow);

// What words of codes begin with, so that the kWholesBits that come with their codes leave nothing: from bit
// 8 on they come to lie outside of the word.
template <int kBits>
__device__ constexpr std::uint32_t emptyWord() {
  std::uint32_t word = 0;
  for (int shift = 0; shift < 8; shift += kBits) word -= kWholesBits << shift;
  return word;
}

// The element of a pair that the lane has: `odd` for all.
__device__ inline float elementOf(std::uint32_t pair, bool odd) {
  return __uint_as_float(__byte_perm(pair, 0, odd ? 0x3244 : 0x1044));
}

// A lane has rows (pairs of channels) 4 (lane / 8) + i of a warp's 16, of tokens 2 (lane % 8) and the next
// and those 16 behind: words hold the codes of neighbouring rows, for a token and that 16 behind it.
template <int kBits, bool kCoded>
struct KeyPacker {
  Source<kCoded> from;
  int headDim;
  Target to;

  // Channel `lane` of the warp's 32, by the lane.
  __device__ void fit(Group<kBits>& group, const Patch<kCoded>& patch, Exchange& exchange) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    constexpr int kRow = kCoded ? kKeyRow / 2 + 2 : kKeyRow;
    constexpr int kHalf = kCoded ? 8 : 16;  // words of 16 tokens
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      std::uint32_t* row = exchange.rows + (lane / 8 * kRows + i) * kRow;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if constexpr (kCoded) {
          row[kHalf * half + lane % 8] = patch.words[i][half];
        } else {
          *reinterpret_cast<uint2*>(row + kHalf * half + lane % 8 * 2) =
              make_uint2(patch.words[i][2 * half], patch.words[i][2 * half + 1]);
        }
      }
    }
    __syncwarp();
    const auto* row = reinterpret_cast<const uint4*>(exchange.rows + lane / 2 * kRow);
    const bool odd = lane % 2 != 0;
    float fine[kPageTokens];
#pragma unroll
    for (int i = 0; i < 2 * kHalf / 4; ++i) {
      const uint4 four = row[i];
      const std::uint32_t words[] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if constexpr (kCoded) {
          const std::uint32_t codes = flipped(words[j]);
          const float4 scales = reinterpret_cast<const float4*>(from.scales)[2 * i + j / 2];
          float* two = fine + 8 * i + 2 * j;
          two[0] = group.fineOf(__fmul_rn(codeAt(codes, odd), j % 2 == 0 ? scales.x : scales.z));
          two[1] = group.fineOf(__fmul_rn(codeAt(codes, 2 + odd), j % 2 == 0 ? scales.y : scales.w));
        } else {
          fine[4 * i + j] = group.fineOf(elementOf(words[j], odd));
        }
      }
    }
    group.fit(fine, kPageTokens, kPageTokens, [](unsigned sum) { return sum; });
  }

  __device__ void pack() const {
    constexpr int kRowsOfRun = 8 / kBits;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    Exchange& exchange = Exchange::ofWarp();
    const int token = lane % 8 * 2;
    float2 scales[kColumns / 2] = {};
    if constexpr (kCoded) {
      const auto* twos = reinterpret_cast<const float2*>(from.scales + token);
      scales[0] = twos[0], scales[1] = twos[8];
    }
    const auto scaleOf = [&](int, int column) {
      const float2 two = scales[column / 2];
      return column % 2 == 0 ? Two{two.x, two.x} : Two{two.y, two.y};
    };
    const int eights = headDim / 8;  // of channels: four rows
    for (int first = 4 * warp; first < eights; first += 4 * kWarps) {
      const int eight = first + lane / 8;
      const bool holds = eight < eights;
      Patch<kCoded> patches[1];
      Patch<kCoded>& patch = patches[0];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int pair = ((holds ? eight : 0) * kRows + i) * kPageTokens + token;
        patch.loadTwo(from.tile, i, 0, pair);
        patch.loadTwo(from.tile, i, 2, pair + 16);
      }
      Group<kBits> group(reachOf<Shared::byEight>(patches, scaleOf));
      if constexpr (kBits == 2) fit(group, patch, exchange);
      if (holds) {
        auto* steps = reinterpret_cast<bf16*>(to.scales) + 8 * eight + lane % 8;
        steps[0] = group.step, steps[headDim] = group.middle;
      }
      exchange.scalings[lane] = group.scaling;
      __syncwarp();
      std::uint32_t words[kRows / kRowsOfRun][2];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const Scaling ofEven = exchange.scalings[lane / 8 * 8 + 2 * i],
                      ofOdd = exchange.scalings[lane / 8 * 8 + 2 * i + 1];
#pragma unroll
        for (int column = 0; column < kColumns; ++column) {
          const Two x = patch.at(i, column, scaleOf(i, column));
          const int shift = kBits * (i % kRowsOfRun * 2 + column / 2);
          std::uint32_t& word = words[i / kRowsOfRun][column % 2];
          if (shift == 0) word = emptyWord<kBits>();
          word += ofEven.template codeOf<kBits>(x.even) << shift;
          word += ofOdd.template codeOf<kBits>(x.odd) << (16 + shift);
        }
      }
#pragma unroll
      for (int run = 0; run < kRows / kRowsOfRun; ++run) {
        if (!holds) continue;
        auto* words16 = reinterpret_cast<std::uint32_t*>(to.tile) + 16 * (eight * (kRows / kRowsOfRun) + run);
        *reinterpret_cast<uint2*>(words16 + token) = make_uint2(words[run][0], words[run][1]);
      }
      __syncwarp();
    }
  }
};

// A warp has four rows (pairs of tokens), and a lane of them four channels of each 128: words hold the codes
// of neighbouring rows for a channel. Those of int2 are two warps'.
template <int kBits, bool kCoded, int kPatches>
struct ValuePacker {
  Source<kCoded> from;
  int headDim;
  Target to;
  Patch<kCoded> patches[kPatches];

  // Reads what it packs.
  __device__ ValuePacker(const Source<kCoded>& from, int headDim, const Target& to)
      : from(from), headDim(headDim), to(to) {
    const int first = static_cast<int>(threadIdx.x) / 32 * kRows;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      // Lanes without channels have the first ones, which changes no group's reach.
#pragma unroll
      for (int patch = 0; patch < kPatches; ++patch) {
        patches[patch].loadFour(from.tile, i, (first + i) * headDim + (holds(patch) ? channelOf(patch) : 0));
      }
    }
  }

  __device__ static int channelOf(int patch) { return 128 * patch + static_cast<int>(threadIdx.x) % 32 * 4; }
  __device__ bool holds(int patch) const { return channelOf(patch) < headDim; }

  // Adds the codes of a word's second four rows, which the next warp has.
  __device__ void merge(uint4 (&words)[kPatches], bool second) const {
    Exchange* exchange = &Exchange::ofWarp();
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (second) {
#pragma unroll
      for (int patch = 0; patch < kPatches; ++patch) {
        const uint4 mine = words[patch];
        reinterpret_cast<uint4*>(exchange->rows)[32 * patch + lane] =
            make_uint4(mine.x << 8, mine.y << 8, mine.z << 8, mine.w << 8);
      }
    }
    __syncthreads();
    if (second) return;
#pragma unroll
    for (int patch = 0; patch < kPatches; ++patch) {
      const uint4 theirs = reinterpret_cast<const uint4*>(exchange[1].rows)[32 * patch + lane];
      uint4& mine = words[patch];
      mine = make_uint4(mine.x | theirs.x, mine.y | theirs.y, mine.z | theirs.z, mine.w | theirs.w);
    }
  }

  // Words of a row as `fit` lays them out.
  __device__ int rowWords() const { return valueRow(headDim / 4 * Patch<kCoded>::kWords); }

  // Reads again what it packs, which `fit` has laid out: there are no registers for it meanwhile.
  __device__ void readAgain(const Exchange& exchange) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const auto* row = reinterpret_cast<const std::byte*>(exchange.rows + i * rowWords());
#pragma unroll
      for (int patch = 0; patch < kPatches; ++patch) patches[patch].loadFour(row, i, channelOf(patch));
    }
  }

  // Token lane % 8 of the warp's, a quarter of its channels by the lane.
  __device__ void fit(Group<kBits>& group, Exchange& exchange) const {
    constexpr int kFoursWords = Patch<kCoded>::kWords;
    const int rowWords = this->rowWords();
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int patch = 0; patch < kPatches; ++patch) {
        if (!holds(patch)) continue;
        const auto& words = patches[patch].words[i];
        std::uint32_t* place = exchange.rows + i * rowWords + channelOf(patch) / 4 * kFoursWords;
        if constexpr (kCoded) {
          *reinterpret_cast<uint2*>(place) = make_uint2(words[0], words[1]);
        } else {
          *reinterpret_cast<uint4*>(place) = make_uint4(words[0], words[1], words[2], words[3]);
        }
      }
    }
    __syncwarp();
    const bool odd = lane % 2 != 0;
    const std::uint32_t* row = exchange.rows + lane % 8 / 2 * rowWords + lane / 8 * kFoursWords;
    float scale = 0;
    if constexpr (kCoded) scale = from.scales[threadIdx.x / 32 * kGroups + lane % 8];
    const int fours = headDim / 16;
    float fine[32 * kPatches];
#pragma unroll
    for (int i = 0; i < 8 * kPatches; ++i) {
      float* four = fine + 4 * i;
      if (i >= fours) {
        four[0] = four[1] = four[2] = four[3] = 0;
        continue;
      }
      const std::uint32_t* words = row + 4 * i * kFoursWords;
      if constexpr (kCoded) {
        const uint2 pairs = *reinterpret_cast<const uint2*>(words);
        const std::uint32_t low = flipped(pairs.x), high = flipped(pairs.y);
        four[0] = group.fineOf(__fmul_rn(codeAt(low, odd), scale));
        four[1] = group.fineOf(__fmul_rn(codeAt(low, 2 + odd), scale));
        four[2] = group.fineOf(__fmul_rn(codeAt(high, odd), scale));
        four[3] = group.fineOf(__fmul_rn(codeAt(high, 2 + odd), scale));
      } else {
        const uint4 pairs = *reinterpret_cast<const uint4*>(words);
        four[0] = group.fineOf(elementOf(pairs.x, odd)), four[1] = group.fineOf(elementOf(pairs.y, odd));
        four[2] = group.fineOf(elementOf(pairs.z, odd)), four[3] = group.fineOf(elementOf(pairs.w, odd));
      }
    }
    group.fit(fine, 4 * fours, headDim, [](unsigned sum) {
      return ofAllEights<Shared::byWarp>(sum, [](unsigned a, unsigned b) { return a + b; });
    });
  }

  __device__ void pack() {
    constexpr int kRowsOfRun = 16 / kBits;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int firstRow = warp * kRows, run = firstRow / kRowsOfRun;
    Exchange& exchange = Exchange::ofWarp();
    // Read again where they are needed again, by when registers have run out.
    const auto scaleOf = [&](int row, int) {
      if constexpr (!kCoded) return Two{};
      const float2 two = reinterpret_cast<const float2*>(from.scales)[firstRow + row];
      return Two{two.x, two.y};
    };
    Group<kBits> group(reachOf<Shared::byWarp>(patches, scaleOf));
    if constexpr (kBits == 2) fit(group, exchange);
    if constexpr (kBits == 2 && kPatches > 1) readAgain(exchange);
    if (lane < kGroups) {
      auto* steps = reinterpret_cast<bf16*>(to.scales) + 2 * firstRow + lane;
      steps[0] = group.step, steps[kPageTokens] = group.middle;
    }
    exchange.scalings[lane] = group.scaling;
    __syncwarp();
    uint4 words[kPatches];
#pragma unroll
    for (int patch = 0; patch < kPatches; ++patch) {
      std::uint32_t codes[kColumns] = {};
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const Scaling ofEven = exchange.scalings[2 * i], ofOdd = exchange.scalings[2 * i + 1];
#pragma unroll
        for (int column = 0; column < kColumns; ++column) {
          const Two x = patches[patch].at(i, column, scaleOf(i, column));
          if (i == 0) codes[column] = emptyWord<kBits>();
          codes[column] += ofEven.template codeOf<kBits>(x.even) << (kBits * i);
          codes[column] += ofOdd.template codeOf<kBits>(x.odd) << (16 + kBits * i);
        }
      }
      words[patch] = make_uint4(codes[0], codes[1], codes[2], codes[3]);
    }
    const bool second = firstRow % kRowsOfRun != 0;
    if constexpr (kRowsOfRun > kRows) merge(words, second);
    if (second) return;
#pragma unroll
    for (int patch = 0; patch < kPatches; ++patch) {
      if (!holds(patch)) continue;
      const int channel = channelOf(patch), word = (channel / 16 * kBits + run) * 16 + channel % 16;
      reinterpret_cast<uint4*>(to.tile)[word / 4] = words[patch];
    }
  }
};

template <int kBits, bool kCoded, int kPatches>
__device__ void packHead(const Source<kCoded>& keys, const Source<kCoded>& values, int headDim,
                         const Target& keyTarget, const Target& valueTarget) {
  const KeyPacker<kBits, kCoded> keyPacker{keys, headDim, keyTarget};
  using Values = ValuePacker<kBits, kCoded, kPatches>;
  if constexpr (kBits == 2 && kPatches > 1) {
    keyPacker.pack();
    Values(values, headDim, valueTarget).pack();
  } else {
    // Values are on their way meanwhile, where there are registers for them.
    Values valuePacker(values, headDim, valueTarget);
    keyPacker.pack();
    valuePacker.pack();
  }
}

}  // namespace tandem::cuda::requantization
