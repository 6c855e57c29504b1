#include "cuda-emulation.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"

// Saves what a function call must keep, exchanges the stacks, restores. Twenty instructions: the library's
// swapcontext makes a system call each time.
extern "C" void tandemSwitchFiber(void** from, void* to);
asm(R"(
.text
.globl tandemSwitchFiber
.type tandemSwitchFiber,@function
tandemSwitchFiber:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size tandemSwitchFiber,.-tandemSwitchFiber
)");

namespace tandem::emulation {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;
constexpr int kMostRoundsOfWaiting = 10000;
// Of a launch, in which races are looked for, and in its last block: a kernel that races does so in any
// block, and blocks with each other in any two.
constexpr unsigned kBlocksLookedAt = 2;
constexpr std::size_t kMostShared = 227 << 10, kSharedAlignment = 1024;

enum State { running, atWarp, atBlock, ended };

// A copy of 16 bytes, or of zeros where it comes from nowhere.
struct Copy {
  void* to;
  const void* from;

  void make() const {
    constexpr std::size_t kBytes = 16;
    from ? std::memcpy(to, from, kBytes) : std::memset(to, 0, kBytes);
  }
};

// What a thread has begun, in groups that are waited for.
template <class Work>
class Begun {
 public:
  void clear() {
    works_.clear();
    group_ = 0;
  }
  void begin(const Work& work) { works_.emplace_back(work, group_); }
  void endGroup() { ++group_; }
  // Does all but the last groups, so many of them.
  template <class Do>
  void waitFor(int left, Do make) {
    while (!works_.empty() && works_.front().second < group_ - left) {
      const Work work = works_.front().first;
      works_.pop_front();
      make(work);
    }
  }

 private:
  std::deque<std::pair<Work, int>> works_;
  int group_ = 0;  // of what comes
};

struct Fiber {
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  void* top = nullptr;
  State state = ended;
  bool secondTurn = false;
  Begun<Copy> copies;
  Begun<Product> products;
};

struct Warp {
  std::array<std::array<Shown, kWarp>, 2> exchanges;
  std::array<unsigned, 4> lanes;  // in each state
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  void* scheduler = nullptr;
  const std::function<void()>* body = nullptr;
  unsigned current = 0;
  // Of the turns that a warp's lanes take: where they end, and the way there.
  unsigned turnsEnd = 0, stride = 1;
  std::vector<std::byte> shared;
  int roundsOfWaiting = 0;
  bool late = false;  // what threads begin is done when they wait for it
  bool hasWaitedForKernels = false;

  Fiber& fiber() { return fibers[current]; }
  Warp& warp() { return warps[current / kWarp]; }

  // Gives the turn to the first lane from here on that runs, or to the scheduler behind the last.
  void passTurn(unsigned thread, void** from) {
    while (thread != turnsEnd && fibers[thread].state != running) thread += stride;
    if (thread == turnsEnd) {
      if (from != &scheduler) tandemSwitchFiber(from, scheduler);
      return;
    }
    current = thread;
    threadIdx.x = thread;
    races::look.stack = reinterpret_cast<std::uintptr_t>(fibers[thread].stack.get());
    races::look.stackBytes = kStackBytes;
    tandemSwitchFiber(from, fibers[thread].top);
  }

  // A lane passes its turn to the next itself: by way of the scheduler it would take two switches.
  void leave(State state) {
    Fiber& fiber = fibers[current];
    Warp& own = warp();
    fiber.state = state;
    --own.lanes[running];
    ++own.lanes[state];
    passTurn(current + stride, &fiber.top);
  }
};

// Behind a pointer, which needs no look at whether it is there: every barrier and shuffle comes here.
constinit thread_local Block* block = nullptr;

void startFiber() {
  (*block->body)();
  block->leave(ended);
}

void prepare(Fiber& fiber) {
  // As if startFiber had been interrupted in its first instruction: six registers below its address. A call
  // leaves the stack 8 bytes off a multiple of 16.
  auto top = (reinterpret_cast<std::uintptr_t>(fiber.stack.get()) + kStackBytes) & ~std::uintptr_t{15};
  auto** words = reinterpret_cast<void**>(top);
  *--words = nullptr;
  *--words = reinterpret_cast<void*>(&startFiber);
  for (int i = 0; i < 6; ++i) *--words = nullptr;
  fiber.top = words;
  fiber.state = running;
  fiber.secondTurn = false;
  fiber.copies.clear();
  fiber.products.clear();
}

// Lets the lanes of a warp that are in the state run on.
void wake(unsigned first, unsigned end, State state) {
  auto& lanes = block->warps[first / kWarp].lanes;
  lanes[running] += lanes[state];
  lanes[state] = 0;
  for (unsigned i = first; i < end; ++i) {
    if (block->fibers[i].state == state) block->fibers[i].state = running;
  }
}

// Runs a warp until every thread has ended or waits for the block.
void runWarp(unsigned first, unsigned end, bool descending) {
  const auto& lanes = block->warps[first / kWarp].lanes;
  for (;;) {
    block->stride = descending ? -1u : 1u;
    block->turnsEnd = descending ? first - 1 : end;
    block->passTurn(descending ? end - 1 : first, &block->scheduler);
    // Who still runs waits for another warp's doing.
    if (lanes[atWarp] == 0 || lanes[running] > 0) return;
    check(lanes[atBlock] == 0, "lanes of a warp wait for the block while others wait for the warp");
    wake(first, end, atWarp);
  }
}

void runBlock(unsigned threads, bool descending) {
  const auto endOf = [threads](unsigned first) { return std::min(threads, first + kWarp); };
  for (unsigned i = 0; i < threads; ++i) prepare(block->fibers[i]);
  for (unsigned first = 0; first < threads; first += kWarp) {
    block->warps[first / kWarp].lanes = {endOf(first) - first, 0, 0, 0};
  }
  for (;;) {
    for (unsigned i = 0; i < threads; i += kWarp) {
      const unsigned first = descending ? (threads - 1) / kWarp * kWarp - i : i;
      runWarp(first, endOf(first), descending);
    }
    const auto begin = block->warps.begin(), end = begin + (threads + kWarp - 1) / kWarp;
    if (std::any_of(begin, end, [](const Warp& warp) { return warp.lanes[running] > 0; })) {
      check(++block->roundsOfWaiting < kMostRoundsOfWaiting, "threads wait for each other for ever");
      continue;
    }
    if (std::none_of(begin, end, [](const Warp& warp) { return warp.lanes[atBlock] > 0; })) return;
    races::meetBlock();
    for (unsigned first = 0; first < threads; first += kWarp) wake(first, endOf(first), atBlock);
  }
}

}  // namespace

void run(dim3 grid, unsigned threads, const std::function<void()>& body, std::size_t sharedBytes,
         const void* kernel, bool early) {
  check(threads > 0 && threads <= 1024, "a block has 1 to 1024 threads");
  check(sharedBytes <= kMostShared, "a block has 227 KB of shared memory at most");
  static thread_local Block own;
  block = &own;
  own.shared.resize(sharedBytes + kSharedAlignment);
  if (own.fibers.size() < threads) {
    own.fibers.resize(threads);
    own.warps.resize((threads + kWarp - 1) / kWarp);
  }
  own.body = &body;
  threadIdx = dim3(0, 0, 0);
  gridDim = grid;
  blockDim = dim3(threads);
  races::beginLaunch(kernel, early);
  // However the block ends.
  struct EndBlock {
    ~EndBlock() { races::endBlock(); }
  };
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  std::uint64_t before = 0;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        std::fill(own.shared.begin(), own.shared.end(), std::byte{0xff});
        own.hasWaitedForKernels = false;
        const bool second = (x + y + z) % 2 == 1;
        own.late = second;
        if (before < kBlocksLookedAt || before + 1 == blocks) {
          races::beginBlock(threads, own.shared.data(), own.shared.size());
        }
        ++before;
        const EndBlock endBlock;
        runBlock(threads, second);
        check(!early || own.hasWaitedForKernels,
              "a block of a kernel that begins early waits for the kernels before");
      }
    }
  }
  const std::string races = races::endLaunch();
  if (!races.empty()) throw Error(races);
}

std::byte* dynamicShared() {
  const auto address = reinterpret_cast<std::uintptr_t>(block->shared.data());
  return block->shared.data() + (kSharedAlignment - address % kSharedAlignment) % kSharedAlignment;
}

void copyAsync(void* shared, const void* global) {
  const Copy copy{shared, global};
  if (block->late) {
    block->fiber().copies.begin(copy);
  } else {
    copy.make();
  }
}
void endCopyGroup() { block->fiber().copies.endGroup(); }
void waitForCopies(int left) {
  block->fiber().copies.waitFor(left, [](const Copy& copy) { copy.make(); });
}

void beginProduct(const Product& product) {
  if (block->late) {
    block->fiber().products.begin(product);
  } else {
    product.compute();
  }
}
void endProductGroup() { block->fiber().products.endGroup(); }
void waitForProducts(int left) {
  block->fiber().products.waitFor(left, [](const Product& product) { product.compute(); });
}

void letOthersRun() { block->leave(running); }
void noteProgress() { block->roundsOfWaiting = 0; }
void noteWaitForKernels() { block->hasWaitedForKernels = true; }

void waitForBlock() { block->leave(atBlock); }
void waitForWarp() { block->leave(atWarp); }

Shown* beginExchange() {
  const bool second = block->fibers[block->current].secondTurn ^= true;
  return block->warp().exchanges[second].data();
}

}  // namespace tandem::emulation

namespace tandem::cuda {

void multiplyTiles(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  struct Operands {
    std::uint32_t a[4], b[2];
  };
  const Operands mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const unsigned g = emulation::laneIndex() / 4, t = emulation::laneIndex() % 4;
  emulation::exchange(mine, [&](auto of) {
    // Rows g and g + 8 of a, columns 2t and 2t + 1 of b. The sums grow beside each other, each in the order
    // of k: one alone waits for its last addition.
    using Pair = double __attribute__((vector_size(16)));
    Pair ofFirst{c[0], c[2]}, ofSecond{c[1], c[3]};
    for (unsigned k = 0; k < 16; ++k) {
      const auto element = [k](std::uint32_t pair) {
        return double{toFloat(static_cast<bf16>(pair >> (16 * (k % 2))))};
      };
      const auto left = [&](unsigned i) { return element(of(g * 4 + k % 8 / 2).a[i + 2 * (k / 8)]); };
      const auto right = [&](unsigned i) { return element(of((2 * t + i) * 4 + k % 8 / 2).b[k / 8]); };
      const Pair rows{left(0), left(1)};
      ofFirst += rows * right(0);
      ofSecond += rows * right(1);
    }
    const auto rounded = [](double sum) { return static_cast<float>(sum); };
    c[0] = rounded(ofFirst[0]), c[1] = rounded(ofSecond[0]);
    c[2] = rounded(ofFirst[1]), c[3] = rounded(ofSecond[1]);
    return 0;
  });
}

}  // namespace tandem::cuda
