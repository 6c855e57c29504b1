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
#include <type_traits>

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
template <PrecisionClass kPool>
constexpr int kAttendingRegisters = kPool == PrecisionClass::bf16 ? 192 : 184;
template <PrecisionClass kPool>
constexpr int kBringingRegisters = kPool == PrecisionClass::bf16 ? 120 : 136;

struct alignas(1024) TokenScales {
  // By score column.
  float keys[kStepTokens];
  float values[kStepTokens];
  std::uint16_t scaled[2];  // whether the pages have such scales
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

#if defined(TANDEM_WGMMA)

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

// Brings steps of pages. Those whose pages are all in the pool's class are asked for a step before they are
// written, so that no thread waits for memory; others are few bytes, and are loaded when it is their turn.
template <int kHeadDim, PrecisionClass kPool>
class Bringer {
 public:
  __device__ explicit Bringer(const Block<kHeadDim>& block)
      : block_(block),
        thread_(static_cast<int>(threadIdx.x) - kAttending),
        seen_(block.seen()),
        entries_(block.problem.tables.entries +
                 block.problem.tables.slots[block.tile.sequence] * block.problem.tables.slotStride) {}

  __device__ void run() {
    auto& barriers = block_.memory.barriers();
    Turn turn;
    int token = seen_.begin / kStepTokens * kStepTokens;
    Pages pages = pagesOf(token), next = pagesOf(token + kStepTokens);
    Raw keys, values;
    if (pages.plain()) {
      load<true>(keys, pages);
      load<false>(values, pages);
    }
#pragma unroll 1
    for (; token < seen_.end; token += kStepTokens) {
      const Pages later = pagesOf(token + 2 * kStepTokens);
      const bool plain = pages.plain(), nextPlain = next.plain();
      waitFor(barriers.used[turn.stage], turn.parity ^ 1);
      plain ? store<true>(keys, pages, turn.stage) : bring<true>(pages, turn.stage);
      publishToTensorCores();
      arrive(barriers.keys[turn.stage]);
      if (nextPlain) load<true>(keys, next);
      plain ? store<false>(values, pages, turn.stage) : bring<false>(pages, turn.stage);
      publishToTensorCores();
      arrive(barriers.values[turn.stage]);
      if (nextPlain) load<false>(values, next);
      pages = next;
      next = later;
      turn.advance();
    }
  }

 private:
  using KeyTile = PageTile<kHeadDim, true, kPool>;

  // Of a step, 0 where nothing is seen.
  struct Pages {
    std::uint64_t entry[2];

    __device__ bool plain() const {
      return entry[0] && entry[1] && PageTables::classOf(entry[0]) == kPool &&
             PageTables::classOf(entry[1]) == kPool;
    }
  };
  __device__ Pages pagesOf(int token) const {
    const auto entryOf = [&](int at) {
      return at < seen_.end && at + kPageTokens > seen_.begin ? entries_[at / kPageTokens] : 0;
    };
    return {entryOf(token), entryOf(token + kPageTokens)};
  }

  // A thread's part of the keys or values of two pages of the pool's class, as they lie there.
  using Words = std::conditional_t<kPool == PrecisionClass::bf16, uint4, uint2>;
  struct Raw {
    Words words[2][4];
  };

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
                                        128 * row + 16 * (slots() % 8 ^ four()));
      } else {
        const int row = four() / 8 * 32 + 8 * i + four() % 8;
        const int slot = 4 * page + 2 * (slots() % 2) + slots() / 2;
        return reinterpret_cast<uint4*>(memory.values(stage) + 128 * row + 16 * (slot ^ four() % 8));
      }
    }
  };

  __device__ const std::byte* headOf(std::uint64_t entry, PrecisionClass precision) const {
    return PageTables::pageOf(entry) + block_.problem.tables.format.in(precision).keys(block_.kvHead);
  }

  template <bool kKeys>
  __device__ void load(Raw& raw, const Pages& pages) const {
    if (thread_ >= kHeadDim) return;
    const Part<kKeys> part{thread_};
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      const std::byte* begin = headOf(pages.entry[page], kPool) + (kKeys ? 0 : KeyTile::kBytes);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int words = part.pair(i) * (kKeys ? kPageTokens : kHeadDim) + 4 * part.four();
        raw.words[page][i] = loadOnce(reinterpret_cast<const Words*>(begin + words * bitsOf(kPool) / 4));
      }
    }
  }

  template <bool kKeys>
  __device__ void store(const Raw& raw, const Pages& pages, int stage) const {
    const Part<kKeys> part{thread_};
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (thread_ < kHeadDim) {
        std::uint32_t words[4][4];
#pragma unroll
        for (int i = 0; i < 4; ++i) spread(words[i], raw.words[page][i]);
        write(part, words, stage, page);
      }
      storeScales<kKeys, kPool>(headOf(pages.entry[page], kPool), stage, page);
    }
  }
  __device__ static void spread(std::uint32_t (&words)[4], uint4 four) {
    words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
  }
  __device__ static void spread(std::uint32_t (&words)[4], uint2 codes) { KeyTile::expand(words, codes); }

  // words [pairs][tokens of keys or channels of values]
  template <bool kKeys>
  __device__ void write(const Part<kKeys>& part, const std::uint32_t (&words)[4][4], int stage,
                        int page) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      *part.place(block_.memory, stage, page, k) =
          make_uint4(words[0][k], words[1][k], words[2][k], words[3][k]);
    }
  }

  // A step with other classes or pages that nobody sees.
  template <bool kKeys>
  __device__ void bring(const Pages& pages, int stage) const {
#pragma unroll 1
    for (int page = 0; page < 2; ++page) {
      const std::uint64_t entry = page == 0 ? pages.entry[0] : pages.entry[1];
      // Without what was computed of it before, of which there are no registers left.
      const Part<kKeys> part{computedAnew(thread_)};
      if (entry == 0) {
        // What nobody sees is multiplied by zero, and must be a number.
        const std::uint32_t zeros[4][4] = {};
        if (!kKeys && thread_ < kHeadDim) write(part, zeros, stage, page);
        storeScales<kKeys, PrecisionClass::bf16>(nullptr, stage, page);
        continue;
      }
      const PrecisionClass precision = PageTables::classOf(entry);
      const std::byte* head = headOf(entry, precision);
      withTile<kHeadDim, kKeys>(precision, [&](auto tile) {
        if (thread_ < kHeadDim) bringTile(part, head, tile, stage, page);
        storeScales<kKeys, tile.kClass>(head, stage, page);
      });
    }
  }

  template <bool kKeys, PrecisionClass kPrecision>
  __device__ void bringTile(const Part<kKeys>& part, const std::byte* head,
                            PageTile<kHeadDim, kKeys, kPrecision> tile, int stage, int page) const {
    const std::byte* begin = head + (kKeys ? 0 : tile.kBytes);
    const int four = part.four();
    std::uint32_t words[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int pair = part.pair(i);
      if constexpr (isPacked(kPrecision)) {
        tile.load(words[i], begin + 64 * tile.wordOf(pair, four) + 16 * (four % 4));
      } else {
        const std::byte* place =
            begin + (pair * (kKeys ? kPageTokens : kHeadDim) + 4 * four) * bitsOf(kPrecision) / 4;
        if constexpr (kPrecision == PrecisionClass::bf16) {
          tile.load(words[i], place);
        } else {
          tile.expand(words[i], *reinterpret_cast<const uint2*>(place));
        }
      }
    }
    if constexpr (isPacked(kPrecision)) {
      const auto* scales = reinterpret_cast<const std::uint32_t*>(head + tile.kScalesBegin);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int pair = part.pair(i), shift = tile.shiftOf(pair, four);
        const std::uint32_t step = tile.halved(scales[pair]),
                            middle = scales[(kKeys ? kHeadDim : kPageTokens) / 2 + pair];
#pragma unroll
        for (int k = 0; k < 4; ++k) words[i][k] = fmaBf16(tile.levels(words[i][k], shift), step, middle);
      }
    }
    write(part, words, stage, page);
  }

  // A thread for each token of a page.
  template <bool kKeys, PrecisionClass kPrecision>
  __device__ void storeScales(const std::byte* head, int stage, int page) const {
    using Tile = PageTile<kHeadDim, kKeys, kPrecision>;
    TokenScales& scales = block_.memory.scales(stage);
    if (kKeys && thread_ == 0) scales.scaled[page] = Tile::kScaledTokens;
    if constexpr (Tile::kScaledTokens) {
      if (thread_ / 32 != page) return;
      const int token = thread_ % 32, column = 32 * page + 8 * (token % 4) + token / 4;
      (kKeys ? scales.keys : scales.values)[column] =
          reinterpret_cast<const float*>(head + Tile::kScalesBegin)[token];
    }
  }

  const Block<kHeadDim>& block_;
  const int thread_;
  const Seen seen_;
  const std::uint64_t* const entries_;  // of the sequence
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
    int lastStage = -1;
#pragma unroll 1
    for (int token = first; token < seen.end; token += kStepTokens) {
      const TokenScales& scales = block_.memory.scales(turn.stage);
      waitFor(barriers.keys[turn.stage], turn.parity);
      // Both pages' flags at once, while products are made.
      const std::uint32_t scaled = *reinterpret_cast<const std::uint32_t*>(scales.scaled);
      score(turn.stage);
      // The values of the step before have been multiplied as well.
      if (lastStage >= 0 && lane_ == 0) arrive(barriers.used[lastStage]);
      lastStage = turn.stage;
      weigh(token, scaled, scales);
      waitFor(barriers.values[turn.stage], turn.parity);
      addValues(turn.stage, scaled, scales);
      turn.advance();
      const int next = token + kStepTokens;
      if (next % kRunTokens == 0 && next < seen.end) {
        finishProducts();
        endRun(totals, false);
        totals = true;
        beginRun();
      }
    }
    finishProducts();
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
    const auto keys = operandAt(block_.memory.keys(stage), 0);
#pragma unroll
    for (int depth = 0; depth < kHeadDim / 16; ++depth) {
      multiply(p_, q_[depth], operandBehind(keys, depth / 4 * Layout<kHeadDim>::kHalfBytes + depth % 4 * 32));
    }
    endProductGroup();
    finishProducts();
    settle(p_);
  }

  __device__ void finishProducts() {
    waitForProducts<0>();
    settle(out_);
  }

  __device__ void weigh(int token, std::uint32_t scaled, const TokenScales& scales) {
    if (token >= seenByAll_.begin && token + kStepTokens <= seenByAll_.end) {
      weighSeen(scaled, scales, [](int, int) { return true; });
    } else {
      weighSeen(scaled, scales, [&](int j, int i) {
        const int at = token + 32 * (j / 4) + 4 * (2 * (lane_ % 4) + i % 2) + j % 4;
        return at >= seen_[i / 2].begin && at < seen_[i / 2].end;
      });
    }
  }

  // isSeen(j, i): whether the row of p_[j][i] sees its token.
  template <class IsSeen>
  __device__ void weighSeen(std::uint32_t scaled, const TokenScales& scales, const IsSeen& isSeen) {
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
      if (isScaled(scaled, page)) {
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
      if (isScaled(scaled, page)) {
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
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out_[j][i] = __fmul_rn(out_[j][i], factors[i / 2]);
    }
  }

  __device__ static bool isScaled(std::uint32_t scaled, int page) { return scaled >> (16 * page) & 1; }

  __device__ void addValues(int stage, std::uint32_t scaled, const TokenScales& scales) {
    const int t = lane_ % 4;
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      if (!isScaled(scaled, page)) continue;
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
    const auto values = operandAt(block_.memory.values(stage), 0);
#pragma unroll
    for (int depth = 0; depth < 4; ++depth) multiply(out_, weights[depth], operandBehind(values, 32 * depth));
    endProductGroup();
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

template <int kHeadDim, PrecisionClass kPool>
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
    takeRegisters<kAttendingRegisters<kPool>>();
    Attender<kHeadDim>(block, scale).run();
  } else {
    giveRegisters<kBringingRegisters<kPool>>();
    Bringer<kHeadDim, kPool>(block).run();
  }
#endif
}

template <int kHeadDim>
void attend(const PrefillAttention& problem, Stream stream) {
  const dim3 grid(static_cast<unsigned>(problem.tileCount),
                  static_cast<unsigned>(problem.tables.format.kvHeads));
  const float scale = kLog2E / std::sqrt(static_cast<float>(kHeadDim));
  const auto kernel = problem.tables.format.precision == PrecisionClass::bf16
                          ? attendTile<kHeadDim, PrecisionClass::bf16>
                          : attendTile<kHeadDim, PrecisionClass::int8>;
  launchShared("prefillAttention", kernel, grid, kThreads, Layout<kHeadDim>::kBytes, stream, problem, scale);
}

}  // namespace

void prefillByWgmma(const PrefillAttention& problem, Stream stream) {
  withHeadDim(problem.tables.format.headDim, "prefillAttention",
              [&](auto headDim) { attend<headDim>(problem, stream); });
}

}  // namespace tandem::cuda
