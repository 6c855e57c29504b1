// One block for each tile and KV head: its rows are the query heads of the group of each token. A warpgroup
// brings pages from global memory and lays them out for wgmma, as bf16 whatever their class; two more attend
// with 64 rows each, so that one's softmax is beside the other's products. Sums are those of
// attention-order.h; what is left of the runs before waits in shared memory.
//
// FLOP: 4 * headDim a pair of tokens and head. Bytes: a block reads every page that one of its rows sees,
// mostly from L2: 32 KB of bf16 a step of 4.2 MFLOP, for 128 channels.
//
// A step's keys lie in shared memory as the rows of a K-major operand, 64 channels in 128 bytes, its values
// as rows of channels with 64 tokens in 128 bytes. Tokens and channels are permuted, so that slots are those
// of attention-warp.h and 16 bytes of a page are one thread's:
//
//   score column 32 page + 8 j + c      token 4 c + j of the page
//   key slots 16 depth + 8 half + 2 i   channels 16 depth + 2 half + 4 i and the next
//   out column 32 block + 8 i + c       channel 32 block + 4 c + i
//   value slots 32 page + 16 m + 8 half + 2 i   tokens 8 i + 4 half + 2 m and the next

#include <cmath>

#include "cuda/attention-order.h"
#include "cuda/bulk-copies.h"
#include "cuda/kernel.h"
#include "cuda/page-tiles.h"
#include "cuda/prefill-kernels.h"
#include "cuda/wgmma.h"

namespace tandem::cuda {
namespace {

constexpr int kAttending = 256, kBringing = 128;  // threads
constexpr int kThreads = kAttending + kBringing;
constexpr int kStages = 4;

// Of the 65536 registers of an SM.
constexpr int kAttendingRegisters = 184, kBringingRegisters = 136;

struct alignas(1024) TokenScales {
  // By score column.
  float keys[kStepTokens];
  float values[kStepTokens];
  PrecisionClass classes[2];  // of the pages
};

template <int kHeadDim>
struct Layout {
  static constexpr int kHalves = (kHeadDim + 63) / 64;  // of keys: 64 channels in 128 bytes
  static constexpr int kHalfBytes = kStepTokens * 128;
  static constexpr int kKeyBytes = kHalves * kHalfBytes;
  static constexpr int kValueBytes = kHeadDim * 2 * kStepTokens;
  static constexpr int kStageBytes = kKeyBytes + kValueBytes + static_cast<int>(sizeof(TokenScales));
  static constexpr int kTotalBytes = kPrefillRows * kHeadDim * static_cast<int>(sizeof(float));
  static constexpr int kBytes = kStages * kStageBytes + kTotalBytes + 1024;

  struct Barriers {
    Barrier keys[kStages], values[kStages], used[kStages];
  };

  std::byte* begin;

  __device__ std::byte* keys(int stage) const { return begin + stage * kStageBytes; }
  __device__ std::byte* values(int stage) const { return keys(stage) + kKeyBytes; }
  __device__ TokenScales& scales(int stage) const {
    return *reinterpret_cast<TokenScales*>(values(stage) + kValueBytes);
  }
  // Four elements of a thread, the sums of earlier runs.
  __device__ float4& total(int index) const {
    return reinterpret_cast<float4*>(begin + kStages * kStageBytes)[index * kAttending + threadIdx.x];
  }
  __device__ Barriers& barriers() const {
    return *reinterpret_cast<Barriers*>(begin + kStages * kStageBytes + kTotalBytes);
  }
};

// Tokens that a row sees.
struct Seen {
  int begin, end;
};

template <int kHeadDim>
struct Block {
  const PrefillAttention& problem;
  const QueryTile tile;
  const int kvHead, group, queries;
  const Layout<kHeadDim> memory;

  __device__ explicit Block(const PrefillAttention& problem)
      : problem(problem),
        // Later tiles of a prompt see more, so they come first.
        tile(problem.tiles[gridDim.x - 1 - blockIdx.x]),
        kvHead(static_cast<int>(blockIdx.y)),
        group(problem.heads / problem.tables.format.kvHeads),
        queries(tile.count * group),
        memory{dynamicShared()} {}

  __device__ Seen seenBy(int query) const {
    const int position = tile.position + min(query, queries - 1) / group;
    return {problem.window > 0 ? max(0, position + 1 - problem.window) : 0, position + 1};
  }
  __device__ Seen seen() const { return {seenBy(0).begin, seenBy(queries - 1).end}; }
};

// A place in the ring of stages, and the parity of the phase that it is in.
struct Turn {
  int stage = 0;
  unsigned parity = 0;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

#if defined(TANDEM_WGMMA)

// A thread's part of the keys or values of a page, on its way.
struct Raw {
  std::uint32_t words[4][4];
};

template <int kHeadDim>
class Bringer {
 public:
  __device__ explicit Bringer(const Block<kHeadDim>& block)
      : block_(block), thread_(static_cast<int>(threadIdx.x) - kAttending), seen_(block.seen()) {}

  __device__ void run() {
    const int first = seen_.begin / kStepTokens * kStepTokens;
    Turn turn;
    Raw keys[2], values[2];
    std::uint64_t pages[2], next[2];
    findPages(pages, first);
    load<true>(keys, pages);
    load<false>(values, pages);
    for (int token = first; token < seen_.end; token += kStepTokens) {
      const bool more = token + kStepTokens < seen_.end;
      if (more) findPages(next, token + kStepTokens);
      auto& barriers = block_.memory.barriers();
      waitFor(barriers.used[turn.stage], turn.parity ^ 1);
      store<true>(keys, pages, turn.stage);
      publishToTensorCores();
      arrive(barriers.keys[turn.stage]);
      if (more) load<true>(keys, next);
      store<false>(values, pages, turn.stage);
      publishToTensorCores();
      arrive(barriers.values[turn.stage]);
      if (more) load<false>(values, next);
      pages[0] = next[0], pages[1] = next[1];
      turn.advance();
    }
  }

 private:
  __device__ void findPages(std::uint64_t (&pages)[2], int token) const {
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      const int at = token + page * kPageTokens;
      pages[page] = at < seen_.end && at + kPageTokens > seen_.begin
                        ? block_.problem.tables.entry(block_.tile.sequence, at / kPageTokens)
                        : 0;
    }
  }

  __device__ const std::byte* headOf(std::uint64_t entry) const {
    const PageFormat format = block_.problem.tables.format.in(PageTables::classOf(entry));
    return PageTables::pageOf(entry) + format.keys(block_.kvHead);
  }

  template <bool kKeys>
  __device__ void load(Raw (&raw)[2], const std::uint64_t (&pages)[2]) const {
    if (thread_ >= kHeadDim) return;
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (pages[page] == 0) continue;
      const std::byte* head = headOf(pages[page]);
      withTile<kHeadDim, kKeys>(PageTables::classOf(pages[page]),
                                [&](auto tile) { loadOf(raw[page], head, tile); });
    }
  }

  template <bool kKeys>
  __device__ void store(const Raw (&raw)[2], const std::uint64_t (&pages)[2], int stage) const {
    TokenScales& scales = block_.memory.scales(stage);
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      const PrecisionClass precision = pages[page] ? PageTables::classOf(pages[page]) : PrecisionClass::bf16;
      if (kKeys && thread_ == page) scales.classes[page] = precision;
      if (pages[page] == 0) {
        // What nobody sees is multiplied by zero, and must be a number.
        if (!kKeys && thread_ < kHeadDim) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            *Part<kKeys>{thread_}.place(block_.memory, stage, page, i) = make_uint4(0, 0, 0, 0);
        }
        continue;
      }
      const std::byte* head = headOf(pages[page]);
      withTile<kHeadDim, kKeys>(precision, [&](auto tile) {
        if (thread_ < kHeadDim) storeOf(raw[page], head, tile, stage, page);
        storeScales(head, tile, scales, page);
      });
    }
  }

  // A thread's part of a page. Keys: 8 channels of 4 tokens. Values: 8 tokens of 4 channels.
  template <bool kKeys>
  struct Part {
    int thread;

    // Which four tokens of keys, or channels of values, and its i-th pair of the other kind.
    __device__ int four() const { return kKeys ? thread % 8 : thread % (kHeadDim / 4); }
    __device__ int slots() const { return kKeys ? thread / 8 : thread / (kHeadDim / 4); }
    __device__ int pair(int i) const {
      return kKeys ? slots() / 2 * 8 + slots() % 2 + 2 * i : 4 * i + slots();
    }
    // Of the i-th of the four.
    __device__ uint4* place(const Layout<kHeadDim>& memory, int stage, int page, int i) const {
      if constexpr (kKeys) {
        const int row = 32 * page + 8 * i + four();
        return reinterpret_cast<uint4*>(memory.keys(stage) + slots() / 8 * Layout<kHeadDim>::kHalfBytes +
                                        128 * row + 16 * (slots() % 8 ^ row % 8));
      } else {
        const int row = four() / 8 * 32 + 8 * i + four() % 8;
        const int slot = 4 * page + 2 * (slots() % 2) + slots() / 2;
        return reinterpret_cast<uint4*>(memory.values(stage) + 128 * row + 16 * (slot ^ row % 8));
      }
    }
  };
  // For bf16 what depends on the thread alone stays in registers; for the other classes there are none left.
  template <bool kKeys, PrecisionClass kPrecision>
  __device__ Part<kKeys> part() const {
    return {kPrecision == PrecisionClass::bf16 ? thread_ : computedAnew(thread_)};
  }

  template <bool kKeys, PrecisionClass kPrecision>
  __device__ void loadOf(Raw& raw, const std::byte* head, PageTile<kHeadDim, kKeys, kPrecision> tile) const {
    const std::byte* begin = head + (kKeys ? 0 : tile.kBytes);
    constexpr int kRow = kKeys ? kPageTokens : kHeadDim;  // pairs
    const Part<kKeys> part = this->part<kKeys, kPrecision>();
    const int four = part.four();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int pair = part.pair(i);
      if constexpr (kPrecision == PrecisionClass::bf16) {
        const uint4 words = loadOnce(reinterpret_cast<const uint4*>(begin + 4 * (pair * kRow + 4 * four)));
        raw.words[i][0] = words.x, raw.words[i][1] = words.y, raw.words[i][2] = words.z,
        raw.words[i][3] = words.w;
      } else if constexpr (kPrecision == PrecisionClass::int8) {
        const uint2 codes = loadOnce(reinterpret_cast<const uint2*>(begin + 2 * (pair * kRow + 4 * four)));
        raw.words[i][0] = codes.x, raw.words[i][1] = codes.y;
      }
    }
  }

  template <bool kKeys, PrecisionClass kPrecision>
  __device__ void storeOf(const Raw& raw, const std::byte* head, PageTile<kHeadDim, kKeys, kPrecision> tile,
                          int stage, int page) const {
    const Part<kKeys> part = this->part<kKeys, kPrecision>();
    std::uint32_t words[4][4];  // [pairs][tokens or channels]
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int pair = part.pair(i);
      if constexpr (kPrecision == PrecisionClass::bf16) {
#pragma unroll
        for (int k = 0; k < 4; ++k) words[i][k] = raw.words[i][k];
      } else if constexpr (kPrecision == PrecisionClass::int8) {
        tile.expand(words[i], make_uint2(raw.words[i][0], raw.words[i][1]));
      } else {
        // Codes are few bytes, and are loaded only now: no registers wait for them meanwhile.
        const int four = part.four();
        std::uint32_t packed[4];
        tile.load(packed, head + (kKeys ? 0 : tile.kBytes) + 64 * tile.wordOf(pair, four) + 16 * (four % 4));
        const int shift = tile.shiftOf(pair, four);
        const auto* scales = reinterpret_cast<const std::uint32_t*>(head + tile.kScalesBegin) + pair;
        const std::uint32_t step = tile.halved(scales[0]),
                            middle = scales[(kKeys ? kHeadDim : kPageTokens) / 2];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          words[i][k] = fmaBf16(tile.levels(packed[k], shift), step, middle);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const uint4 sixteen = make_uint4(words[0][k], words[1][k], words[2][k], words[3][k]);
      *part.place(block_.memory, stage, page, k) = sixteen;
    }
  }

  // A thread for each token of a page.
  template <bool kKeys, PrecisionClass kPrecision>
  __device__ void storeScales(const std::byte* head, PageTile<kHeadDim, kKeys, kPrecision> tile,
                              TokenScales& scales, int page) const {
    if constexpr (tile.kScaledTokens) {
      if (thread_ / 32 != page) return;
      const int token = thread_ % 32, column = 32 * page + 8 * (token % 4) + token / 4;
      const std::byte* source = head + tile.kScalesBegin;
      (kKeys ? scales.keys : scales.values)[column] = reinterpret_cast<const float*>(source)[token];
    }
  }

  const Block<kHeadDim>& block_;
  const int thread_;
  const Seen seen_;
};

// 64 rows in a warpgroup. With g = lane / 4 and t = lane % 4 a lane has rows g and g + 8 of its warp's 16.
template <int kHeadDim>
class Attender {
 public:
  __device__ Attender(const Block<kHeadDim>& block, float scale)
      : block_(block), scale_(scale), lane_(static_cast<int>(threadIdx.x) % 32) {
    const PageFormat& format = block.problem.tables.format;
    const std::int64_t cols = std::int64_t{block.problem.heads + 2 * format.kvHeads} * kHeadDim;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = queryOf(half);
      const bf16* head = block.problem.qkv + (block.tile.row + query / block.group) * cols +
                         std::int64_t{block.kvHead * block.group + query % block.group} * kHeadDim;
#pragma unroll
      for (int depth = 0; depth < kHeadDim / 16; ++depth) {
        const uint2 words = query < block.queries
                                ? *reinterpret_cast<const uint2*>(head + 16 * depth + 4 * (lane_ % 4))
                                : make_uint2(0, 0);
        q_[depth][half] = words.x;
        q_[depth][2 + half] = words.y;
      }
      seen_[half] = block.seenBy(query);
    }
    const int firstOfWarp = static_cast<int>(threadIdx.x) / 32 * 16;
    seenByAll_ = {block.seenBy(firstOfWarp + 15).begin, block.seenBy(firstOfWarp).end};
  }

  __device__ void run() {
    const Seen seen = block_.seen();
    const int first = seen.begin / kStepTokens * kStepTokens;
    auto& barriers = block_.memory.barriers();
    Turn turn;
    beginRun();
    bool totals = false;
    for (int token = first; token < seen.end; token += kStepTokens) {
      const TokenScales& scales = block_.memory.scales(turn.stage);
      waitFor(barriers.keys[turn.stage], turn.parity);
      score(turn.stage);
      weigh(token, scales);
      waitFor(barriers.values[turn.stage], turn.parity);
      addValues(turn.stage, scales);
      if (lane_ == 0) arrive(barriers.used[turn.stage]);
      turn.advance();
      const int next = token + kStepTokens;
      if (next % kRunTokens == 0 && next < seen.end) {
        endRun(totals, false);
        totals = true;
        beginRun();
      }
    }
    endRun(totals, true);
  }

 private:
  __device__ int queryOf(int half) const {
    return static_cast<int>(threadIdx.x) / 32 * 16 + lane_ / 4 + 8 * half;
  }

  __device__ void beginRun() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      highest_[half] = kNothingSeen;
#pragma unroll
      for (int quarter = 0; quarter < kQuarters; ++quarter)
        sum_[half][quarter][0] = sum_[half][quarter][1] = 0;
    }
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out_[j][i] = 0;
    }
  }

  __device__ void score(int stage) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p_[j][i] = 0;
    }
    settle(p_);
    beginProducts();
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      const std::byte* half = block_.memory.keys(stage) + depth / 4 * Layout<kHeadDim>::kHalfBytes;
      multiply(p_, q_[depth], operandAt(half, depth % 4));
    }
    endProductGroup();
    waitForProducts<0>();
    settle(p_);
  }

  __device__ void weigh(int token, const TokenScales& scales) {
    if (token >= seenByAll_.begin && token + kStepTokens <= seenByAll_.end) {
      weighSeen(scales, [](int, int) { return true; });
    } else {
      weighSeen(scales, [&](int j, int i) {
        const int at = token + 32 * (j / 4) + 4 * (2 * (lane_ % 4) + i % 2) + j % 4;
        return at >= seen_[i / 2].begin && at < seen_[i / 2].end;
      });
    }
  }

  // isSeen(j, i): whether the row of p_[j][i] sees its token.
  template <class IsSeen>
  __device__ void weighSeen(const TokenScales& scales, const IsSeen& isSeen) {
    const int t = lane_ % 4;
    float highest[2] = {highest_[0], highest_[1]};
    const auto ofPage = [&](int page, const auto& body) {
#pragma unroll
      for (int j = 4 * page; j < 4 * page + 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) body(j, i);
      }
    };
    const auto scaleOf = [&](int j, int i) { return __fmul_rn(scale_, scales.keys[8 * j + 2 * t + i % 2]); };
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (scales.classes[page] == PrecisionClass::int8) {
        ofPage(page, [&](int j, int i) {
          if (isSeen(j, i)) highest[i / 2] = fmaxf(highest[i / 2], __fmul_rn(p_[j][i], scaleOf(j, i)));
        });
      } else {
        // The highest product has the highest score.
        float products[2] = {-INFINITY, -INFINITY};
        ofPage(page, [&](int j, int i) {
          if (isSeen(j, i)) products[i / 2] = fmaxf(products[i / 2], p_[j][i]);
        });
        highest[0] = fmaxf(highest[0], __fmul_rn(products[0], scale_));
        highest[1] = fmaxf(highest[1], __fmul_rn(products[1], scale_));
      }
    }
    float factors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      highest[half] = fmaxf(highest[half], __shfl_xor_sync(kWholeWarp, highest[half], 1));
      highest[half] = fmaxf(highest[half], __shfl_xor_sync(kWholeWarp, highest[half], 2));
      factors[half] = exp2Fast(highest_[half] - highest[half]);
      highest_[half] = highest[half];
    }
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (scales.classes[page] == PrecisionClass::int8) {
        ofPage(page, [&](int j, int i) {
          p_[j][i] = isSeen(j, i) ? probability(p_[j][i], scaleOf(j, i), highest[i / 2]) : 0;
        });
      } else {
        ofPage(page, [&](int j, int i) {
          p_[j][i] = isSeen(j, i) ? probability(p_[j][i], scale_, highest[i / 2]) : 0;
        });
      }
    }
#pragma unroll
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& sum = sum_[i / 2][quarter][i % 2];
        sum = __fmaf_rn(sum, factors[i / 2], p_[2 * quarter][i] + p_[2 * quarter + 1][i]);
      }
    }
    // Most steps raise no row's maximum, and a factor of one changes nothing.
    if (__any_sync(kWholeWarp, factors[0] != 1 || factors[1] != 1)) {
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out_[j][i] = __fmul_rn(out_[j][i], factors[i / 2]);
      }
    }
  }

  __device__ void addValues(int stage, const TokenScales& scales) {
    const int t = lane_ % 4;
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (scales.classes[page] != PrecisionClass::int8) continue;
#pragma unroll
      for (int j = 4 * page; j < 4 * page + 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p_[j][i] *= scales.values[8 * j + 2 * t + i % 2];
      }
    }
    std::uint32_t weights[4][4];
#pragma unroll
    for (int depth = 0; depth < 4; ++depth) {
      const float(&even)[4] = p_[2 * depth], (&odd)[4] = p_[2 * depth + 1];
      weights[depth][0] = packBf16(even[0], odd[0]);
      weights[depth][1] = packBf16(even[2], odd[2]);
      weights[depth][2] = packBf16(even[1], odd[1]);
      weights[depth][3] = packBf16(even[3], odd[3]);
    }
    settle(out_);
    beginProducts();
#pragma unroll
    for (int depth = 0; depth < 4; ++depth) {
      multiply(out_, weights[depth], operandAt(block_.memory.values(stage), depth));
    }
    endProductGroup();
    waitForProducts<0>();
    settle(out_);
  }

  // Adds the run to what the runs before have left, there or, if it is the last, on its way out.
  __device__ void endRun(bool totals, bool last) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto& sum = sum_[half];
      const SoftmaxSums run{highest_[half], overQuarters(overClasses(sum[0]), overClasses(sum[1]),
                                                         overClasses(sum[2]), overClasses(sum[3]))};
      const MergeFactors factors = MergeFactors::merge(totals_[half], run);
      const float inverse = 1 / totals_[half].sum;
      const int query = queryOf(half);
      bf16* head = block_.problem.out +
                   ((block_.tile.row + query / block_.group) * std::int64_t{block_.problem.heads} +
                    block_.kvHead * block_.group + query % block_.group) *
                       kHeadDim;
#pragma unroll
      for (int b = 0; b < kHeadDim / 32; ++b) {
        // Channels 32 b + 8 t + 4 e + i.
        float eight[8];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float4& place = block_.memory.total((half * (kHeadDim / 32) + b) * 2 + e);
          const float4 before = totals ? place : float4{0, 0, 0, 0};
          const float earlier[4] = {before.x, before.y, before.z, before.w};
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            eight[4 * e + i] = factors.combine(earlier[i], out_[4 * b + i][2 * half + e]);
          }
          if (!last) place = float4{eight[4 * e], eight[4 * e + 1], eight[4 * e + 2], eight[4 * e + 3]};
        }
        if (!last || query >= block_.queries) continue;
        *reinterpret_cast<uint4*>(head + 32 * b + 8 * (lane_ % 4)) =
            make_uint4(packBf16(eight[0] * inverse, eight[1] * inverse),
                       packBf16(eight[2] * inverse, eight[3] * inverse),
                       packBf16(eight[4] * inverse, eight[5] * inverse),
                       packBf16(eight[6] * inverse, eight[7] * inverse));
      }
    }
  }

  __device__ static float overClasses(const float (&classes)[2]) {
    float sum = classes[0] + classes[1];
    sum += __shfl_xor_sync(kWholeWarp, sum, 1);
    return sum + __shfl_xor_sync(kWholeWarp, sum, 2);
  }

  const Block<kHeadDim>& block_;
  const float scale_;
  const int lane_;
  std::uint32_t q_[kHeadDim / 16][4];
  Seen seen_[2], seenByAll_;
  float p_[8][4];  // scores, then probabilities
  float out_[kHeadDim / 8][4];
  float highest_[2];
  float sum_[2][kQuarters][2];  // of the lane's two classes
  SoftmaxSums totals_[2];
};

#endif

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1) attendTile(const PrefillAttention problem, float scale) {
#if defined(TANDEM_WGMMA)
  const Block<kHeadDim> block(problem);
  if (threadIdx.x == 0) {
    auto& barriers = block.memory.barriers();
    for (int stage = 0; stage < kStages; ++stage) {
      initialise(barriers.keys[stage], kBringing);
      initialise(barriers.values[stage], kBringing);
      initialise(barriers.used[stage], kAttending / 32);
    }
    publishBarriers();
  }
  __syncthreads();
  if (threadIdx.x < kAttending) {
    takeRegisters<kAttendingRegisters>();
    Attender<kHeadDim>(block, scale).run();
  } else {
    giveRegisters<kBringingRegisters>();
    Bringer<kHeadDim>(block).run();
  }
#endif
}

template <int kHeadDim>
void attend(const PrefillAttention& problem, Stream stream) {
  const dim3 grid(static_cast<unsigned>(problem.tileCount),
                  static_cast<unsigned>(problem.tables.format.kvHeads));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  launchShared("prefillAttention", attendTile<kHeadDim>, grid, kThreads, Layout<kHeadDim>::kBytes, stream,
               problem, scale);
}

}  // namespace

void prefillByWgmma(const PrefillAttention& problem, Stream stream) {
  withHeadDim(problem.tables.format.headDim, "prefillAttention",
              [&](auto headDim) { attend<headDim>(problem, stream); });
}

}  // namespace tandem::cuda
