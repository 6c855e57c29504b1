#pragma once

#include <type_traits>

#include "cuda/page-tiles.h"
#include "cuda/prefill-wgmma-block.h"
#include "cuda/wgmma.h"

#if defined(TANDEM_WGMMA)

namespace tandem::cuda::wgmma_prefill {

// Brings steps of pages. Those whose pages are all in the pool's class are asked for a step before they are
// written, so that no thread waits for memory; others are few bytes, and are loaded when it is their turn.
template <int kHeadDim, PrecisionClass kPool>
class Bringer {
 public:
  __device__ Bringer(const Block<kHeadDim>& block, float scale)
      : block_(block),
        scale_(scale),
        thread_(static_cast<int>(threadIdx.x) - kAttending),
        seen_(block.seen()),
        entries_(block.problem.tables.entries +
                 block.problem.tables.slots[block.tile.sequence] * block.problem.tables.slotStride),
        window_(seen_.begin / kPageTokens / 32),
        mine_(entryOf(32 * window_ + thread_ % 32)),
        ahead_(entryOf(32 * (window_ + 1) + thread_ % 32)) {}

  __device__ void run() {
    auto& barriers = block_.memory.barriers();
    RingTurn turn;
    int token = seen_.begin / kStepTokens * kStepTokens;
    Pages pages = pagesOf(token);
    Raw keys = {}, values = {};
    load<true>(keys, pages);
    load<false>(values, pages);
#pragma unroll 1
    for (; token < seen_.end; token += kStepTokens) {
      const Pages next = pagesOf(token + kStepTokens);
      waitFor(barriers.used[turn.place], turn.parity ^ 1);
      if (pages.plain()) {
        store<true>(keys, pages, turn.place);
        store<false>(values, pages, turn.place);
      } else {
        // Said to be nothing, words of a page that was not asked for leave their registers meanwhile.
        keys = values = {};
        bring<true>(pages, turn.place);
        bring<false>(pages, turn.place);
      }
      // Before the next pages are asked for: the fence in it waits for whatever a thread has asked for.
      publishToTensorCores();
      arrive(barriers.brought[turn.place]);
      load<true>(keys, next);
      load<false>(values, next);
      pages = next;
      turn.advance(kStages);
    }
  }

 private:
  using KeyTile = PageTile<kHeadDim, true, kPool>;

  // Of a step, 0 where nothing is seen.
  struct Pages {
    std::uint64_t entry[2];

    __device__ bool alike() const {
      return entry[0] && entry[1] && PageTables::classOf(entry[0]) == PageTables::classOf(entry[1]);
    }
    __device__ bool plain() const { return alike() && PageTables::classOf(entry[0]) == kPool; }
  };
  // Steps are asked for in turn.
  __device__ Pages pagesOf(int token) {
    const int page = token / kPageTokens;
    if (page / 32 != window_) {
      ++window_;
      mine_ = ahead_;
      ahead_ = entryOf(32 * (window_ + 1) + thread_ % 32);
    }
    return {__shfl_sync(kWholeWarp, mine_, page % 32), __shfl_sync(kWholeWarp, mine_, page % 32 + 1)};
  }
  __device__ std::uint64_t entryOf(int page) const {
    const int at = page * kPageTokens;
    return at < seen_.end && at + kPageTokens > seen_.begin ? entries_[page] : 0;
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
    // Words from one to the next.
    static constexpr int kBetweenPairs = kKeys ? 2 * kPageTokens : 4 * kHeadDim;
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
    const bool wanted = pages.plain() && thread_ < kHeadDim;
    const Part<kKeys> part{thread_};
    const int first = (part.pair(0) * (kKeys ? kPageTokens : kHeadDim) + 4 * part.four()) * bitsOf(kPool) / 4;
#pragma unroll
    for (int page = 0; page < 2; ++page) {
      const std::byte* begin = headOf(pages.entry[page], kPool) + (kKeys ? 0 : KeyTile::kBytes) + first;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        loadOnce(raw.words[page][i],
                 reinterpret_cast<const Words*>(begin + i * part.kBetweenPairs * bitsOf(kPool) / 4), wanted);
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
    // Without what was computed of it before, of which there are no registers left.
    const Part<kKeys> part{computedAnew(thread_)};
    // What holds words of bf16 has registers for both pages' at once.
    if (kPool == PrecisionClass::bf16 && pages.alike()) {
      const PrecisionClass precision = PageTables::classOf(pages.entry[0]);
      const std::byte* heads[2] = {headOf(pages.entry[0], precision), headOf(pages.entry[1], precision)};
      return bringAlike(part, precision, heads, stage, 0);
    }
#pragma unroll 1
    for (int page = 0; page < 2; ++page) {
      const std::uint64_t entry = page == 0 ? pages.entry[0] : pages.entry[1];
      if (entry == 0) {
        // What nobody sees is multiplied by zero, and must be a number.
        const std::uint32_t zeros[4][4] = {};
        if (!kKeys && thread_ < kHeadDim) write(part, zeros, stage, page);
        if (kKeys && thread_ == 0) block_.memory.scales(stage).traits[page] = kNotThere;
        continue;
      }
      const PrecisionClass precision = PageTables::classOf(entry);
      const std::byte* heads[1] = {headOf(entry, precision)};
      bringAlike(part, precision, heads, stage, page);
    }
  }

  // Pages of one class from `firstPage` of the step on. All are asked for before one is waited for.
  template <bool kKeys, int kPages>
  __device__ void bringAlike(const Part<kKeys>& part, PrecisionClass precision,
                             const std::byte* const (&heads)[kPages], int stage, int firstPage) const {
    withTile<kHeadDim, kKeys>(precision, [&](auto tile) {
      if (thread_ < kHeadDim) {
        Source<tile.kClass> sources[kPages];
#pragma unroll
        for (int i = 0; i < kPages; ++i) read(sources[i], part, heads[i], tile);
#pragma unroll
        for (int i = 0; i < kPages; ++i) writeFrom(sources[i], part, tile, stage, firstPage + i);
      }
#pragma unroll
      for (int i = 0; i < kPages; ++i) storeScales<kKeys, tile.kClass>(heads[i], stage, firstPage + i);
    });
  }

  // What a thread's part of a page is made of: words as they lie there, and of a packed class what belongs to
  // each of its pairs.
  template <PrecisionClass kPrecision>
  struct Source {
    std::conditional_t<kPrecision == PrecisionClass::int8, uint2, uint4> words[4];
    std::uint32_t steps[4], middles[4];
  };

  template <bool kKeys, PrecisionClass kPrecision>
  __device__ static void read(Source<kPrecision>& source, const Part<kKeys>& part, const std::byte* head,
                              PageTile<kHeadDim, kKeys, kPrecision> tile) {
    using Words = std::remove_reference_t<decltype(source.words[0])>;
    const std::byte* begin = head + (kKeys ? 0 : tile.kBytes);
    const auto* scales = reinterpret_cast<const std::uint32_t*>(head + tile.kScalesBegin);
    const int four = part.four();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int pair = part.pair(i);
      const int at = isPacked(kPrecision)
                         ? 64 * tile.wordOf(pair, four) + 16 * (four % 4)
                         : (pair * (kKeys ? kPageTokens : kHeadDim) + 4 * four) * bitsOf(kPrecision) / 4;
      source.words[i] = *reinterpret_cast<const Words*>(begin + at);
      if constexpr (isPacked(kPrecision)) {
        source.steps[i] = scales[pair];
        source.middles[i] = scales[(kKeys ? kHeadDim : kPageTokens) / 2 + pair];
      }
    }
  }

  template <bool kKeys, PrecisionClass kPrecision>
  __device__ void writeFrom(const Source<kPrecision>& source, const Part<kKeys>& part,
                            PageTile<kHeadDim, kKeys, kPrecision> tile, int stage, int page) const {
    std::uint32_t words[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kPrecision == PrecisionClass::int8) {
        tile.expand(words[i], source.words[i]);
      } else {
        spread(words[i], source.words[i]);
      }
      if constexpr (isPacked(kPrecision)) {
        const int shift = tile.shiftOf(part.pair(i), part.four());
#pragma unroll
        for (int k = 0; k < 4; ++k)
          words[i][k] = fmaBf16(tile.levelsAt(words[i][k], shift), source.steps[i], source.middles[i]);
      }
    }
    write(part, words, stage, page);
  }

  // A thread for each token of a page.
  template <bool kKeys, PrecisionClass kPrecision>
  __device__ void storeScales(const std::byte* head, int stage, int page) const {
    using Tile = PageTile<kHeadDim, kKeys, kPrecision>;
    TokenScales& scales = block_.memory.scales(stage);
    if (kKeys && thread_ == 0) scales.traits[page] = Tile::kScaledTokens ? kScaled : 0;
    if constexpr (Tile::kScaledTokens) {
      if (thread_ / 32 != page) return;
      const int token = thread_ % 32, column = 32 * page + 8 * (token % 4) + token / 4;
      const float ofToken = reinterpret_cast<const float*>(head + Tile::kScalesBegin)[token];
      (kKeys ? scales.keys : scales.values)[column] = kKeys ? __fmul_rn(scale_, ofToken) : ofToken;
    }
  }

  const Block<kHeadDim>& block_;
  const float scale_;
  const int thread_;
  const Seen seen_;
  const std::uint64_t* const entries_;  // of the sequence
  // Of 32 pages the entry of one is the lane's, and of the 32 behind, read long before they are asked for.
  int window_;
  std::uint64_t mine_, ahead_;
};

}  // namespace tandem::cuda::wgmma_prefill

#endif
