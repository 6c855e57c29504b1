#include "cuda-races.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "check.h"
#include "cuda-emulation.h"
#include "cuda-race-memory.h"
#include "cuda-race-order.h"

namespace tandem::emulation::races {
namespace {

// Where the compiler shows none of the kernels' accesses (under other sanitizers), nothing is looked at.
#ifdef TANDEM_SHOWS_ACCESSES
constexpr bool kAccessesAreShown = true;
#else
constexpr bool kAccessesAreShown = false;
#endif

constexpr std::uint32_t kLaunchesAlways = 8, kLaunchesBetween = 16;
constexpr unsigned kRacesMost = 8;
constexpr int kAllRows = 256;

// From an address to one that it does not hold any more.
using Range = std::pair<std::uintptr_t, std::uintptr_t>;

bool isWithin(const Range& range, std::uintptr_t address) {
  return address - range.first < range.second - range.first;
}

// The program's own variables of this thread, among them __shared__ ones.
Range threadVariables() {
  Range range{0, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* program, std::size_t, void* result) {
        for (int i = 0; i < program->dlpi_phnum; ++i) {
          if (program->dlpi_phdr[i].p_type != PT_TLS) continue;
          const auto begin = reinterpret_cast<std::uintptr_t>(program->dlpi_tls_data);
          *static_cast<Range*>(result) = {begin, begin + program->dlpi_phdr[i].p_memsz};
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

// File and line, and those it was inlined into.
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

std::string actor(const Access& access) {
  static const char* const of[] = {"thread ", "the copies of thread ", "the bulk copies of thread ",
                                   "the tensor cores of thread "};
  return of[static_cast<int>(access.by)] + std::to_string(access.thread);
}

class Detector {
 public:
  Order order;

  void beginLaunch(const void* kernel, bool early) {
    if (const char* const test = test::running; test != launchesOf_) {
      launchesOf_ = test;
      launches_.clear();
    }
    const std::uint32_t launches = launches_[kernel]++;
    looksAtLaunch_ = launches < kLaunchesAlways || launches % kLaunchesBetween == 0;
    if (!early) words_.forgetIfMany();
    order.beginLaunch(early);
    races_.clear();
    sites_.clear();
  }
  bool looksAtLaunch() const { return looksAtLaunch_; }
  std::string endLaunch() const {
    std::string all;
    for (const auto& race : races_) all += (all.empty() ? "" : "; ") + race;
    return all;
  }

  void beginBlock(unsigned threads, const std::byte* shared, std::size_t sharedBytes) {
    const auto begin = reinterpret_cast<std::uintptr_t>(shared);
    shared_ = {begin, begin + sharedBytes};
    operandRows_.assign(threads, {kAllRows, kAllRows});
    order.beginBlock(threads);
  }

  void access(By by, Does does, std::uintptr_t address, std::size_t bytes, const void* site) {
    Access now = order.now(by);
    now.isAtomic = does == Does::atomic;
    // Of the call, not of what comes behind it.
    now.site = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(site) - 1 - programBegin());
    const std::uintptr_t end = address + bytes;
    for (std::uintptr_t word = address / 4 * 4; word < end; word += 4) {
      const unsigned first = word < address ? static_cast<unsigned>(address - word) : 0;
      const unsigned last = end - word < 4 ? static_cast<unsigned>(end - word) : 4;
      now.bytes = ((1U << last) - (1U << first)) & 0xf;
      if (does == Does::read) {
        read(words_.at(word), now, word);
      } else {
        write(words_.at(word), now, word);
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

  std::array<int, 2>& operandRows() { return operandRows_[threadIdx.x]; }

 private:
  struct Rewrite {
    Access before, now;
    std::uintptr_t address;
    std::uint32_t content;
  };

  bool isShared(std::uintptr_t address) const {
    return isWithin(shared_, address) || isWithin(variables_, address);
  }
  bool isOrdered(const Access& before, const Access& now, std::uintptr_t address) const {
    return order.isOrdered(before, now, isShared(address));
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
      } else if (now.by == By::tensorCores && !order.isPublished(write, now)) {
        report(write, now, "multiplies", "has not published", address);
      }
    }
    word.keepRead(now);
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
      order.exchangeAt(address, isShared(address));
    }
    for (Access& read : word.reads) {
      if (!read.meets(now)) continue;
      if (!isOrdered(read, now, address)) report(read, now, "writes", "reads", address);
      read.run = 0;
    }
    word.write = now;
  }

  void report(const Access& before, const Access& now, const char* does, const char* did,
              std::uintptr_t address) {
    if (races_.size() == kRacesMost || !sites_.emplace(before.site, now.site).second) return;
    const char* where = before.run == order.run()      ? ""
                        : order.isOfLaunch(before.run) ? " of another block"
                                                       : " of a kernel before";
    races_.push_back(std::string("a race in ") + (isShared(address) ? "shared" : "global") +
                     " memory: " + actor(now) + " of block " + std::to_string(blockIdx.x) + ", " +
                     std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + " " + does + " (" +
                     describe(now.site) + ") what " + actor(before) + where + " " + did + " (" +
                     describe(before.site) + ")");
  }

  std::unordered_map<const void*, std::uint32_t> launches_;  // by kernel, of this test
  const char* launchesOf_ = nullptr;
  bool looksAtLaunch_ = false;
  Range shared_;
  const Range variables_ = threadVariables();
  std::vector<std::array<int, 2>> operandRows_;
  Words words_;
  std::vector<Rewrite> rewrites_;
  std::vector<std::string> races_;
  std::set<std::pair<std::uint32_t, std::uint32_t>> sites_;
};

// Of this thread of the host: lanes have kernels of their own.
constinit thread_local Detector* detector = nullptr;

Detector& ownDetector() {
  static thread_local Detector ofThread;
  detector = &ofThread;
  return ofThread;
}

// Does something with the detector, if it looks. It does not look at itself: it shares functions of the
// standard library with kernels.
template <class Action>
void tell(const Action& action) {
  if (!look.isOn) return;
  look.isOn = false;
  detector->judgeRewrites();
  action(*detector);
  look.isOn = true;
}

}  // namespace

void access(By by, Does does, const void* address, std::size_t bytes, const void* site) {
  tell([&](Detector& it) { it.access(by, does, reinterpret_cast<std::uintptr_t>(address), bytes, site); });
}

void beginLaunch(const void* kernel, bool early) { ownDetector().beginLaunch(kernel, early); }
std::string endLaunch() { return detector->endLaunch(); }
void beginBlock(unsigned threads, const std::byte* shared, std::size_t sharedBytes) {
  if (!kAccessesAreShown || !detector->looksAtLaunch()) return;
  detector->beginBlock(threads, shared, sharedBytes);
  look.isOn = true;
}
void endBlock() {
  if (look.isOn) detector->judgeRewrites();
  look.isOn = false;
}

void meetBlock() {
  tell([](Detector& it) { it.order.meetBlock(); });
}
void meetWarp() {
  tell([](Detector& it) { it.order.meetWarp(); });
}
void arrive(const void* barrier, unsigned phase) {
  tell([&](Detector& it) { it.order.arrive(barrier, phase); });
}
void await(const void* barrier, unsigned phase) {
  tell([&](Detector& it) { it.order.await(barrier, phase); });
}
void completeBulkCopies(const void* barrier, unsigned phase) {
  tell([&](Detector& it) { it.order.completeBulkCopies(barrier, phase); });
}
void endGroup(By by) {
  tell([&](Detector& it) { it.order.endGroup(by); });
}
void waitForGroups(By by, unsigned left) {
  tell([&](Detector& it) { it.order.waitForGroups(by, left); });
}
void publishToTensorCores() {
  tell([](Detector& it) { it.order.publishToTensorCores(); });
}
void fenceThread() {
  tell([](Detector& it) { it.order.fenceThread(); });
}
void waitForKernelsBefore() {
  tell([](Detector& it) { it.order.waitForKernelsBefore(); });
}
void letNextKernelBegin() {
  tell([](Detector& it) { it.order.letNextKernelBegin(); });
}

void useOperandRows(int a, int b) {
  tell([&](Detector& it) { it.operandRows() = {a, b}; });
}
int operandRows(int which) { return look.isOn ? detector->operandRows()[which] : 0; }

}  // namespace tandem::emulation::races
