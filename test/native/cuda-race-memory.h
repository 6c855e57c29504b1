#pragma once

// What was done to memory last, word by word.

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>

#include "cuda-emulation.h"
#include "cuda-races.h"

namespace tandem::emulation::races {

// Counts what orders accesses: who has seen a thread up to a time has seen what it did before.
using Time = std::uint32_t;

// What was done to some bytes of a word.
struct Access {
  std::uint32_t run = 0;  // the number of the block, of all that ran; 0: nothing
  Time at = 0;            // of copies and tensor cores the number of the group instead
  std::uint16_t thread = 0;
  By by = By::thread;
  std::uint8_t bytes : 4 = 0, isAtomic : 1 = 0;
  std::uint32_t site = 0;  // from the program's beginning on

  bool meets(const Access& other) const { return run != 0 && (bytes & other.bytes) != 0; }
};

// A write forgets the reads before it: what races with them races with the write, or did with them. Of reads
// stay the last, the one before it of another lane, and of another warp.
struct Word {
  Access write;
  std::array<Access, 3> reads;

  void keepRead(const Access& now) {
    auto& [last, lane, warp] = reads;
    if (last.run == now.run && last.by == now.by && last.thread / kWarp == now.thread / kWarp) {
      if (last.thread != now.thread) {
        lane = last;
      } else if (last.at == now.at) {
        last.bytes = last.bytes | now.bytes;
        return;
      }
    } else {
      warp = last;
    }
    last = now;
  }
};

// Words by address.
class Words {
 public:
  Word& at(std::uintptr_t address) {
    const std::uintptr_t page = address / kPageBytes;
    auto& [key, found] = recent_[page % recent_.size()];
    if (key != page || !found) {
      auto& owned = pages_[page];
      if (!owned) owned = std::make_unique<Page>();
      key = page;
      found = owned.get();
    }
    return (*found)[address / 4 % kPageWords];
  }

  // Before what all that was done comes before.
  void forgetIfMany() {
    if (pages_.size() < kPagesMost) return;
    pages_.clear();
    recent_ = {};
  }

 private:
  static constexpr unsigned kPageWords = 256, kPageBytes = 4 * kPageWords, kPagesMost = 1 << 14;
  using Page = std::array<Word, kPageWords>;

  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
  std::array<std::pair<std::uintptr_t, Page*>, 1024> recent_{};
};

}  // namespace tandem::emulation::races
