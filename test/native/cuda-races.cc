#include "cuda-races.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda-emulation.h"

namespace tandem::emulation::races {
namespace {

// Counts what orders accesses. An access has the time at which it is made: who has seen a thread up to a time
// has seen what it did before.
using Time = std::uint32_t;

constexpr unsigned kBulkThreadsMost = 32, kRacesMost = 8;
constexpr int kAllRows = 256;

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
};

constexpr unsigned kPageWords = 256, kPageBytes = 4 * kPageWords, kPagesMost = 1 << 14;
using Page = std::array<Word, kPageWords>;

// Words by address. What has nothing before it in common with the launch that begins may be forgotten.
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

  void forgetIfMany() {
    if (pages_.size() < kPagesMost) return;
    pages_.clear();
    recent_ = {};
  }

 private:
  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
  std::array<std::pair<std::uintptr_t, Page*>, 1024> recent_{};
};

// Groups of copies or of products: a group is done when its thread has waited for it.
struct Groups {
  std::uint32_t ended = 0;
  std::vector<std::pair<Time, std::uint32_t>> waits;  // when, and how many were done

  std::uint32_t done() const { return waits.empty() ? 0 : waits.back().second; }
  void clear() {
    ended = 0;
    waits.clear();
  }
};

// What a block left before an atomic operation: of each thread all before its fence.
struct Release {
  std::uint32_t run;
  std::vector<Time> fences;
};
using Releases = std::vector<std::shared_ptr<const Release>>;

struct Publication {
  Time at;
  std::uint32_t copiesDone;
};

struct Thread {
  // Up to when it has seen the others, and the bulk copies of some, by barriers that are not the block's.
  std::vector<Time> seen;
  bool hasSeen = false;
  bool sawLaunches = false;
  Time fence = 0;
  unsigned warpMeetings = 0;
  std::array<int, 2> operandRows{};
  Groups copies, products;
  std::vector<Publication> publications;
  Releases acquired;
};

struct Warp {
  Time met = 0;
  unsigned meetings = 0;
};

// Of a Barrier: what those have seen who arrived in each phase.
struct Clock {
  unsigned phase = 0;
  std::array<std::vector<Time>, 2> seen;
};

// The program's own variables of a thread, among them __shared__ ones.
std::pair<std::uintptr_t, std::uintptr_t> threadVariables() {
  std::pair<std::uintptr_t, std::uintptr_t> range{0, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* program, std::size_t, void* result) {
        for (int i = 0; i < program->dlpi_phnum; ++i) {
          if (program->dlpi_phdr[i].p_type != PT_TLS) continue;
          const auto begin = reinterpret_cast<std::uintptr_t>(program->dlpi_tls_data);
          *static_cast<decltype(range)*>(result) = {begin, begin + program->dlpi_phdr[i].p_memsz};
        }
        return 1;  // the program itself comes first
      },
      &range);
  return range;
}

std::uintptr_t programBegin() {
  static const std::uintptr_t begin = [] {
    Dl_info info{};
    return dladdr(reinterpret_cast<const void*>(&programBegin), &info)
               ? reinterpret_cast<std::uintptr_t>(info.dli_fbase)
               : 0;
  }();
  return begin;
}

// Function, file and line, where the program knows its own.
std::string describe(std::uint32_t site) {
  char command[128], line[512];
  std::snprintf(command, sizeof command, "addr2line -psi -e /proc/%d/exe 0x%x 2>/dev/null", getpid(), site);
  std::string result;
  if (FILE* lines = popen(command, "r")) {
    for (int i = 0; i < 3 && std::fgets(line, sizeof line, lines); ++i) {
      std::string text = line;
      text.erase(text.find_last_not_of("\n") + 1);
      result += (i > 0 ? " " : "") + text;
    }
    pclose(lines);
  }
  return result;
}

class Detector {
 public:
  void beginLaunch(const void* kernel, bool early) {
    const std::uint32_t launches = launches_[kernel]++;
    looksAtLaunch_ = launches < 32 || launches % (launches < 512 ? 4 : 16) == 0;
    if (!early) words_.forgetIfMany();
    // A kernel that begins early may meet the one before it, and whom that one may still meet, too.
    const std::uint32_t before = launchFirst_;
    launchFirst_ = run_ + 1;
    unorderedFrom_ = early && launchLets_ ? (launchEarly_ ? unorderedFrom_ : before) : launchFirst_;
    launchEarly_ = early;
    launchLets_ = false;
    atomics_.clear();
    races_.clear();
    sites_.clear();
  }
  bool looksAtLaunch() const { return looksAtLaunch_; }
  std::string endLaunch() {
    std::string all;
    for (const auto& race : races_) all += (all.empty() ? "" : "; ") + race;
    return all;
  }

  void beginBlock(unsigned threads, const std::byte* shared, std::size_t sharedBytes) {
    ++run_;
    threads_ = threads;
    shared_ = {reinterpret_cast<std::uintptr_t>(shared),
               reinterpret_cast<std::uintptr_t>(shared) + sharedBytes};
    if (variables_.second == 0) variables_ = threadVariables();
    if (threadStates_.size() < threads) {
      threadStates_.resize(threads);
      warps_.resize((threads + kWarp - 1) / kWarp);
    }
    for (unsigned i = 0; i < threads; ++i) {
      Thread& thread = threadStates_[i];
      thread.hasSeen = false;
      thread.sawLaunches = !launchEarly_;
      thread.fence = 0;
      thread.warpMeetings = 0;
      thread.operandRows = {kAllRows, kAllRows};
      thread.copies.clear();
      thread.products.clear();
      thread.publications.clear();
      thread.acquired.clear();
    }
    std::fill(warps_.begin(), warps_.end(), Warp{now_, 0});
    blockMet_ = ++now_;
    seenBulk_ = {};
    bulkThreads_.clear();
    barriers_.clear();
  }
  void access(By by, Does does, std::uintptr_t address, std::size_t bytes, const void* site) {
    Access access = own(by, site);
    access.isAtomic = does == Does::atomic;
    const std::uintptr_t end = address + bytes;
    for (std::uintptr_t word = address / 4 * 4; word < end; word += 4) {
      const unsigned first = word < address ? static_cast<unsigned>(address - word) : 0;
      const unsigned last = end - word < 4 ? static_cast<unsigned>(end - word) : 4;
      access.bytes = ((1U << last) - (1U << first)) & 0xf;
      if (does == Does::read) {
        read(words_.at(word), access, word);
      } else {
        write(words_.at(word), access, word);
      }
    }
  }

  // Who writes what is there already does no harm. That is known when the write is done, which the thread
  // does before anything else that is told here.
  void judgeRewrites() {
    for (const auto& [before, now, address, content] : rewrites_) {
      if (contentOf(address) != content) report(before, now, "writes", "wrote", address);
    }
    rewrites_.clear();
  }

  void meetBlock() {
    blockMet_ = ++now_;
    bool anySawLaunches = false;
    Releases acquired;
    for (unsigned i = 0; i < threads_; ++i) {
      Thread& thread = threadStates_[i];
      anySawLaunches |= thread.sawLaunches;
      acquired.insert(acquired.end(), thread.acquired.begin(), thread.acquired.end());
      if (!thread.hasSeen) continue;
      for (unsigned bulk = 0; bulk < bulkThreads_.size(); ++bulk) {
        seenBulk_[bulk] = std::max(seenBulk_[bulk], thread.seen[threads_ + bulk]);
      }
      thread.hasSeen = false;
    }
    std::sort(acquired.begin(), acquired.end());
    acquired.erase(std::unique(acquired.begin(), acquired.end()), acquired.end());
    for (unsigned i = 0; i < threads_; ++i) {
      threadStates_[i].sawLaunches = anySawLaunches;
      threadStates_[i].acquired = acquired;
    }
  }

  void meetWarp() {
    Warp& warp = warps_[threadIdx.x / kWarp];
    // The first that comes back finds all others there: they have done what they did before.
    if (ownThread().warpMeetings++ != warp.meetings) return;
    ++warp.meetings;
    warp.met = ++now_;
    const unsigned first = threadIdx.x / kWarp * kWarp, end = std::min(first + kWarp, threads_);
    std::vector<Time>* all = nullptr;
    bool anySawLaunches = false;
    for (unsigned i = first; i < end; ++i) {
      anySawLaunches |= threadStates_[i].sawLaunches;
      if (!threadStates_[i].hasSeen) continue;
      if (all) {
        join(*all, threadStates_[i].seen);
      } else {
        all = &threadStates_[i].seen;
      }
    }
    for (unsigned i = first; i < end; ++i) {
      threadStates_[i].sawLaunches = anySawLaunches;
      if (!all) continue;
      if (all != &threadStates_[i].seen) threadStates_[i].seen = *all;
      threadStates_[i].hasSeen = true;
    }
  }

  void arrive(const void* barrier, unsigned phase) {
    auto& seen = clockOf(barrier, phase);
    ++now_;
    if (ownThread().hasSeen) join(seen, ownThread().seen);
    const unsigned first = threadIdx.x / kWarp * kWarp, end = std::min(first + kWarp, threads_);
    for (unsigned i = first; i < end; ++i) seen[i] = std::max(seen[i], warps_[first / kWarp].met);
    seen[threadIdx.x] = now_;
  }
  void await(const void* barrier, unsigned phase) {
    learn(ownThread());
    join(ownThread().seen, barriers_[barrier].seen[phase]);
  }
  void completeBulkCopies(const void* barrier, unsigned phase) {
    auto& seen = clockOf(barrier, phase);
    seen[threads_ + bulkIndex(threadIdx.x)] = ++now_;
  }

  void endGroup(By by) { ++groupsOf(ownThread(), by).ended; }
  void waitForGroups(By by, unsigned left) {
    Groups& groups = groupsOf(ownThread(), by);
    if (groups.ended > left + groups.done()) groups.waits.emplace_back(now_++, groups.ended - left);
  }

  void publishToTensorCores() { ownThread().publications.push_back({now_++, ownThread().copies.done()}); }
  void useOperandRows(int a, int b) { ownThread().operandRows = {a, b}; }
  int operandRows(int which) { return ownThread().operandRows[which]; }
  void fenceThread() { ownThread().fence = ++now_; }
  void waitForKernelsBefore() { ownThread().sawLaunches = true; }
  void letNextKernelBegin() { launchLets_ = true; }

 private:
  using Range = std::pair<std::uintptr_t, std::uintptr_t>;

  static bool isWithin(const Range& range, std::uintptr_t address) {
    return address - range.first < range.second - range.first;
  }
  bool isShared(std::uintptr_t address) const {
    return isWithin(shared_, address) || isWithin(variables_, address);
  }

  Thread& ownThread() { return threadStates_[threadIdx.x]; }
  static Groups& groupsOf(Thread& thread, By by) {
    return by == By::copies ? thread.copies : thread.products;
  }

  Access own(By by, const void* site) {
    Access access;
    access.run = run_;
    access.at = now_;
    access.thread = static_cast<std::uint16_t>(threadIdx.x);
    access.by = by;
    access.site = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(site) - 1 - programBegin());
    if (by == By::copies || by == By::tensorCores) access.at = groupsOf(ownThread(), by).ended;
    if (by == By::bulkCopies) bulkIndex(threadIdx.x);
    return access;
  }

  unsigned bulkIndex(unsigned thread) {
    const auto found = std::find(bulkThreads_.begin(), bulkThreads_.end(), thread);
    if (found == bulkThreads_.end()) {
      check(bulkThreads_.size() < kBulkThreadsMost,
            "more threads make bulk copies than races are looked for in");
      bulkThreads_.push_back(thread);
      return static_cast<unsigned>(bulkThreads_.size()) - 1;
    }
    return static_cast<unsigned>(found - bulkThreads_.begin());
  }

  void learn(Thread& thread) {
    if (thread.hasSeen) return;
    thread.seen.assign(threads_ + kBulkThreadsMost, 0);
    thread.hasSeen = true;
  }
  static void join(std::vector<Time>& into, const std::vector<Time>& from) {
    for (std::size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
  }

  std::vector<Time>& clockOf(const void* barrier, unsigned phase) {
    Clock& clock = barriers_[barrier];
    auto& seen = clock.seen[phase];
    if (seen.empty() || clock.phase != phase) {
      for (auto& one : clock.seen) one.resize(threads_ + kBulkThreadsMost, 0);
      std::fill(seen.begin(), seen.end(), 0);
      clock.phase = phase;
    }
    return seen;
  }

  // Up to when one thread has seen another.
  Time seenOf(unsigned reader, unsigned other) const {
    const Thread& thread = threadStates_[reader];
    Time seen = blockMet_;
    if (reader / kWarp == other / kWarp) seen = std::max(seen, warps_[reader / kWarp].met);
    if (thread.hasSeen) seen = std::max(seen, thread.seen[other]);
    return seen;
  }

  // Whether a group is done, and the thread knows.
  bool hasSeenGroup(const Groups& groups, std::uint32_t group, unsigned reader, unsigned other) const {
    const auto wait =
        std::upper_bound(groups.waits.begin(), groups.waits.end(), group,
                         [](std::uint32_t wanted, const auto& of) { return wanted < of.second; });
    return wait != groups.waits.end() && (reader == other || wait->first < seenOf(reader, other));
  }

  // Whether what the block did before comes before what the thread, or what it has begun, does now.
  bool isOrderedWithinBlock(const Access& before, const Access& now) const {
    const unsigned reader = now.thread, other = before.thread;
    const bool sameWarp = reader / kWarp == other / kWarp;
    switch (before.by) {
      case By::thread:
        return reader == other || before.at < seenOf(reader, other);
      case By::copies:
        return (now.by == By::copies && reader == other) ||
               hasSeenGroup(threadStates_[other].copies, before.at, reader, other);
      case By::tensorCores:
        // They are waited for by all lanes of their warp together.
        return sameWarp ? now.by == By::tensorCores || threadStates_[reader].products.done() > before.at
                        : hasSeenGroup(threadStates_[other].products, before.at, reader, other);
      case By::bulkCopies: {
        const auto bulk = static_cast<unsigned>(std::find(bulkThreads_.begin(), bulkThreads_.end(), other) -
                                                bulkThreads_.begin());
        const Thread& thread = threadStates_[reader];
        return before.at < std::max(seenBulk_[bulk], thread.hasSeen ? thread.seen[threads_ + bulk] : 0);
      }
    }
    return false;
  }

  // Whether tensor cores find what a thread wrote.
  bool isPublished(const Access& written, unsigned reader) const {
    if (written.by == By::bulkCopies) return true;
    const Thread& writer = threadStates_[written.thread];
    for (const Publication& publication : writer.publications) {
      const bool covers =
          written.by == By::copies ? publication.copiesDone > written.at : publication.at >= written.at;
      if (covers) return reader == written.thread || publication.at < seenOf(reader, written.thread);
    }
    return false;
  }

  bool isOrdered(const Access& before, const Access& now, std::uintptr_t address) const {
    if (before.run == now.run) return isOrderedWithinBlock(before, now);
    if (isShared(address)) return true;
    const Thread& thread = threadStates_[now.thread];
    if (before.run < launchFirst_) return before.run < unorderedFrom_ || thread.sawLaunches;
    for (const auto& release : thread.acquired) {
      if (release->run == before.run) {
        return before.by != By::thread || before.at < release->fences[before.thread];
      }
    }
    return false;
  }

  static std::uint32_t contentOf(std::uintptr_t address) {
    std::uint32_t content;
    std::memcpy(&content, reinterpret_cast<const void*>(address), sizeof content);
    return content;
  }
  void read(Word& word, const Access& now, std::uintptr_t address) {
    const Access& write = word.write;
    if (write.meets(now)) {
      if (!isOrdered(write, now, address)) {
        report(write, now, "reads", "wrote", address);
      } else if (now.by == By::tensorCores && write.run == run_ && !isPublished(write, now.thread)) {
        report(write, now, "multiplies", "has not published", address);
      }
    }
    auto& [last, lane, warp] = word.reads;
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

  void write(Word& word, const Access& now, std::uintptr_t address) {
    if (word.write.meets(now) && !(word.write.isAtomic && now.isAtomic) &&
        !isOrdered(word.write, now, address)) {
      if (now.by == By::thread && word.write.by == By::thread && !now.isAtomic) {
        rewrites_.push_back({word.write, now, address, contentOf(address)});
      } else {
        report(word.write, now, "writes", "wrote", address);
      }
    } else if (now.isAtomic) {
      exchangeAtomics(address);
    }
    for (Access& read : word.reads) {
      if (!read.meets(now)) continue;
      if (!isOrdered(read, now, address)) report(read, now, "writes", "reads", address);
      read.run = 0;
    }
    word.write = now;
  }

  // Finds what others have left behind the same atomic operation, and leaves what this block's fences cover.
  void exchangeAtomics(std::uintptr_t address) {
    Releases& left = atomics_[address];
    Thread& thread = ownThread();
    thread.acquired.insert(thread.acquired.end(), left.begin(), left.end());
    if (thread.fence == 0 || isShared(address)) return;
    auto own = std::make_shared<Release>(Release{run_, std::vector<Time>(threads_, 0)});
    for (unsigned i = 0; i < threads_; ++i) {
      const Time fence = threadStates_[i].fence;
      if (i == threadIdx.x || fence < seenOf(threadIdx.x, i)) own->fences[i] = fence;
    }
    left.push_back(std::move(own));
  }

  std::string actor(const Access& access) const {
    static const char* const of[] = {"thread ", "the copies of thread ", "the bulk copies of thread ",
                                     "the tensor cores of thread "};
    return of[static_cast<int>(access.by)] + std::to_string(access.thread) +
           (access.run == run_           ? ""
            : access.run >= launchFirst_ ? " of another block"
                                         : " of a kernel before");
  }

  void report(const Access& before, const Access& now, const char* does, const char* did,
              std::uintptr_t address) {
    if (races_.size() == kRacesMost || !sites_.emplace(before.site, now.site).second) return;
    races_.push_back("a race in " + std::string(isShared(address) ? "shared" : "global") +
                     " memory: " + actor(now) + " of block " + std::to_string(blockIdx.x) + ", " +
                     std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + " " + does + " (" +
                     describe(now.site) + ") what " + actor(before) + " " + did + " (" +
                     describe(before.site) + ")");
  }

  std::unordered_map<const void*, std::uint32_t> launches_;
  bool looksAtLaunch_ = false;
  Time now_ = 1;
  std::uint32_t run_ = 0, launchFirst_ = 1, unorderedFrom_ = 1;
  bool launchEarly_ = false, launchLets_ = false;
  unsigned threads_ = 0;
  Range shared_, variables_;
  Time blockMet_ = 0;
  std::array<Time, kBulkThreadsMost> seenBulk_{};
  std::vector<unsigned> bulkThreads_;
  std::vector<Thread> threadStates_;
  std::vector<Warp> warps_;
  std::unordered_map<const void*, Clock> barriers_;
  std::unordered_map<std::uintptr_t, Releases> atomics_;
  Words words_;
  struct Rewrite {
    Access before, now;
    std::uintptr_t address;
    std::uint32_t content;
  };
  std::vector<Rewrite> rewrites_;
  std::vector<std::string> races_;
  std::set<std::pair<std::uint32_t, std::uint32_t>> sites_;
};

// Lanes are host threads, with kernels of their own.
constinit thread_local Detector* detector = nullptr;

Detector& own() {
  static thread_local Detector ofThread;
  detector = &ofThread;
  return ofThread;
}

// Tells the detector, if it looks. It does not look at itself: it shares functions of the standard library
// with kernels.
template <class Tell>
void tell(const Tell& tell) {
  if (!look.isOn) return;
  look.isOn = false;
  detector->judgeRewrites();
  tell(*detector);
  look.isOn = true;
}

}  // namespace

void access(By by, Does does, const void* address, std::size_t bytes, const void* site) {
  tell([&](Detector& it) { it.access(by, does, reinterpret_cast<std::uintptr_t>(address), bytes, site); });
}

void beginLaunch(const void* kernel, bool early) { own().beginLaunch(kernel, early); }
std::string endLaunch() { return detector->endLaunch(); }
void beginBlock(unsigned threads, const std::byte* shared, std::size_t sharedBytes) {
  if (!detector->looksAtLaunch()) return;
  detector->beginBlock(threads, shared, sharedBytes);
  look.isOn = true;
}
void endBlock() {
  if (look.isOn) detector->judgeRewrites();
  look.isOn = false;
}
void meetBlock() {
  tell([](Detector& it) { it.meetBlock(); });
}
void meetWarp() {
  tell([](Detector& it) { it.meetWarp(); });
}
void arrive(const void* barrier, unsigned phase) {
  tell([&](Detector& it) { it.arrive(barrier, phase); });
}
void await(const void* barrier, unsigned phase) {
  tell([&](Detector& it) { it.await(barrier, phase); });
}
void completeBulkCopies(const void* barrier, unsigned phase) {
  tell([&](Detector& it) { it.completeBulkCopies(barrier, phase); });
}
void endGroup(By by) {
  tell([&](Detector& it) { it.endGroup(by); });
}
void waitForGroups(By by, unsigned left) {
  tell([&](Detector& it) { it.waitForGroups(by, left); });
}
void publishToTensorCores() {
  tell([](Detector& it) { it.publishToTensorCores(); });
}
void useOperandRows(int a, int b) {
  tell([&](Detector& it) { it.useOperandRows(a, b); });
}
int operandRows(int which) { return look.isOn ? detector->operandRows(which) : 0; }
void fenceThread() {
  tell([](Detector& it) { it.fenceThread(); });
}
void waitForKernelsBefore() {
  tell([](Detector& it) { it.waitForKernelsBefore(); });
}
void letNextKernelBegin() {
  tell([](Detector& it) { it.letNextKernelBegin(); });
}

}  // namespace tandem::emulation::races
