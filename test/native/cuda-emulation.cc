#include "cuda-emulation.h"

#include <algorithm>
#include <array>
#include <memory>
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
constexpr std::size_t kMostShared = 227 << 10, kSharedAlignment = 1024;

enum class State { running, atWarp, atBlock, ended };

struct Fiber {
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  void* top = nullptr;
  State state = State::ended;
  bool secondTurn = false;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<std::array<std::array<Shown, kWarp>, 2>> exchanges;  // of each warp
  void* scheduler = nullptr;
  const std::function<void()>* body = nullptr;
  unsigned current = 0;
  std::vector<std::byte> shared;
  int roundsOfWaiting = 0;

  void enter(unsigned thread) {
    current = thread;
    threadIdx = dim3(thread, 0, 0);
    tandemSwitchFiber(&scheduler, fibers[thread].top);
  }

  void leave(State state) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    tandemSwitchFiber(&fiber.top, scheduler);
  }
};

thread_local Block block;

void startFiber() {
  (*block.body)();
  block.leave(State::ended);
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
  fiber.state = State::running;
  fiber.secondTurn = false;
}

// Runs a warp until every thread has ended or waits for the block.
void runWarp(unsigned first, unsigned end, bool descending) {
  for (;;) {
    for (unsigned i = first; i < end; ++i) {
      const unsigned thread = descending ? end - 1 - (i - first) : i;
      if (block.fibers[thread].state == State::running) block.enter(thread);
    }
    unsigned running = 0, atWarp = 0, atBlock = 0;
    for (unsigned i = first; i < end; ++i) {
      const State state = block.fibers[i].state;
      running += state == State::running;
      atWarp += state == State::atWarp;
      atBlock += state == State::atBlock;
    }
    // Who still runs waits for another warp's doing.
    if (atWarp == 0 || running > 0) return;
    check(atBlock == 0, "lanes of a warp wait for the block while others wait for the warp");
    for (unsigned i = first; i < end; ++i) {
      if (block.fibers[i].state == State::atWarp) block.fibers[i].state = State::running;
    }
  }
}

void runBlock(unsigned threads, bool descending) {
  for (unsigned i = 0; i < threads; ++i) prepare(block.fibers[i]);
  for (;;) {
    for (unsigned i = 0; i < threads; i += kWarp) {
      const unsigned first = descending ? (threads - 1) / kWarp * kWarp - i : i;
      runWarp(first, std::min(threads, first + kWarp), descending);
    }
    const auto begin = block.fibers.begin();
    if (std::any_of(begin, begin + threads, [](const Fiber& f) { return f.state == State::running; })) {
      check(++block.roundsOfWaiting < kMostRoundsOfWaiting, "threads wait for each other for ever");
      continue;
    }
    bool left = false;
    for (unsigned i = 0; i < threads; ++i) {
      if (block.fibers[i].state != State::atBlock) continue;
      block.fibers[i].state = State::running;
      left = true;
    }
    if (!left) return;
  }
}

}  // namespace

void run(dim3 grid, unsigned threads, const std::function<void()>& body, std::size_t sharedBytes) {
  check(threads > 0 && threads <= 1024, "a block has 1 to 1024 threads");
  check(sharedBytes <= kMostShared, "a block has 227 KB of shared memory at most");
  block.shared.resize(sharedBytes + kSharedAlignment);
  if (block.fibers.size() < threads) {
    block.fibers.resize(threads);
    block.exchanges.resize((threads + kWarp - 1) / kWarp);
  }
  block.body = &body;
  gridDim = grid;
  blockDim = dim3(threads);
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        std::fill(block.shared.begin(), block.shared.end(), std::byte{0xff});
        runBlock(threads, (x + y + z) % 2 == 1);
      }
    }
  }
}

std::byte* dynamicShared() {
  const auto address = reinterpret_cast<std::uintptr_t>(block.shared.data());
  return block.shared.data() + (kSharedAlignment - address % kSharedAlignment) % kSharedAlignment;
}

void letOthersRun() { block.leave(State::running); }
void noteProgress() { block.roundsOfWaiting = 0; }

void waitForBlock() { block.leave(State::atBlock); }
void waitForWarp() { block.leave(State::atWarp); }

Shown* beginExchange() {
  const bool second = block.fibers[block.current].secondTurn ^= true;
  return block.exchanges[block.current / kWarp][second].data();
}

}  // namespace tandem::emulation
