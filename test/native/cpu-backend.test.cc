#include "cpu/cpu-backend.h"

#include <sched.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "attention-case.h"
#include "check.h"
#include "cpu/cores.h"
#include "cpu/unit-claims.h"

using namespace tandem;
using namespace tandem::test;

namespace {

const std::byte* bytesOf(const void* data) { return static_cast<const std::byte*>(data); }

// A lane as the addon runs one: its own thread, which opens it, claims, works, releases.
template <class Body>
void onLane(Backend& backend, int lane, Body body) {
  std::exception_ptr error;
  std::thread([&] {
    try {
      const auto ops = backend.openLane(lane, {});
      body(*ops);
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

}  // namespace

TEST("unit claims: disjoint ranges are held at once") {
  cpu::UnitClaims claims(4);
  claims.claim(0, 0, 2);
  claims.claim(1, 2, 2);
  claims.release(0);
  claims.release(1);
  claims.claim(1, 0, 4);
}

TEST("unit claims: refuses ranges that do not exist and a second claim of one lane") {
  cpu::UnitClaims claims(4);
  throws([&] { claims.claim(0, 0, 5); }, "units 0 to 5 of 4");
  throws([&] { claims.claim(0, 3, 2); }, "units 3 to 5 of 4");
  throws([&] { claims.claim(0, -1, 2); }, "units -1");
  throws([&] { claims.claim(0, 0, 0); }, "units 0 to 0");
  throws([&] { claims.claim(2, 0, 1); }, "a lane is");
  claims.claim(0, 0, 1);
  throws([&] { claims.claim(0, 1, 1); }, "release them first");
}

TEST("unit claims: two lanes after the same units never hold them together and take turns") {
  cpu::UnitClaims claims(2);
  std::atomic<int> holders{0}, overlaps{0};
  constexpr int kTurns = 2000;
  std::atomic<int> turns[2] = {};
  const auto lane = [&](int self) {
    for (int i = 0; i < kTurns; ++i) {
      claims.claim(self, 0, 2);
      if (holders.fetch_add(1) != 0) ++overlaps;
      holders.fetch_sub(1);
      ++turns[self];
      claims.release(self);
    }
  };
  std::thread prefill([&] { lane(0); }), decode([&] { lane(1); });
  prefill.join();
  decode.join();
  test::equal(overlaps.load(), 0, "both held the units");
  test::equal(turns[0] + turns[1], 2 * kTurns, "turns");
}

TEST("unit claims: a lane that waits is served before the other may claim the same units again") {
  for (int round = 0; round < 50; ++round) {
    cpu::UnitClaims claims(2);
    claims.claim(0, 0, 2);
    std::atomic<bool> served{false};
    std::jthread waiter([&] {
      claims.claim(1, 1, 1);
      served = true;
      claims.release(1);
    });
    while (!claims.waits(1)) std::this_thread::yield();
    claims.release(0);
    claims.claim(0, 0, 2);
    const bool first = served;
    claims.release(0);
    isTrue(first, "the waiting lane came first");
  }
}

TEST("cpu backend: refuses more cores than there are, and lanes out of order") {
  throws([] { makeCpuBackend(0); }, "this process may use 1 to");
  throws([] { makeCpuBackend(100000); }, "this process may use 1 to");
  const auto backend = makeCpuBackend(1);
  throws([&] { backend->openLane(2, {}); }, "a lane is");
  throws([&] { backend->claimUnits(0, 0, 1); }, "opened before");
  const auto ops = backend->openLane(0, {});
  throws([&] { backend->openLane(0, {}); }, "opened twice");
}

TEST("cpu backend: buffers hold what they were made for and no more") {
  const auto backend = makeCpuBackend(1);
  const auto buffer = backend->allocate(12);
  const Tensor tensor = buffer->tensor(3, 4);
  test::equal(tensor.rows * tensor.cols, std::int64_t{12}, "elements");
  test::equal(reinterpret_cast<std::uintptr_t>(tensor.data) % 64, std::uintptr_t{0}, "alignment");
  throws([&] { buffer->tensor(13, 1); }, "13 x 1 does not fit a buffer of 12");
  throws([&] { buffer->tensor(std::int64_t{1} << 62, 8); }, "does not fit");
  throws([&] { buffer->tensor(-1, 8); }, "does not fit");
}

TEST("cpu backend: embeds bf16, f16 and f32 rows that are not aligned") {
  const auto backend = makeCpuBackend(1);
  onLane(*backend, 0, [&](Ops& ops) {
    const float values[3][4] = {{0, 1, 2, 3}, {-1, 0.5f, 0.25f, 8}, {4, 5, 6, 7}};
    const std::uint16_t halves[3][4] = {
        {0, 0x3c00, 0x4000, 0x4200}, {0xbc00, 0x3800, 0x3400, 0x4800}, {0x4400, 0x4500, 0x4600, 0x4700}};
    std::vector<std::byte> f32(1 + sizeof values), f16(1 + sizeof halves), b16(1 + sizeof halves);
    std::memcpy(f32.data() + 1, values, sizeof values);
    std::memcpy(f16.data() + 1, halves, sizeof halves);
    for (int i = 0; i < 12; ++i) {
      const bf16 bits = toBf16(values[i / 4][i % 4]);
      std::memcpy(b16.data() + 1 + 2 * i, &bits, 2);
    }
    const std::vector<std::int32_t> tokens = {2, 0, 1, 2};
    for (const CheckpointMatrix table :
         {CheckpointMatrix{bytesOf(f32.data() + 1), CheckpointType::f32, 3, 4},
          CheckpointMatrix{bytesOf(f16.data() + 1), CheckpointType::f16, 3, 4},
          CheckpointMatrix{bytesOf(b16.data() + 1), CheckpointType::bf16, 3, 4}}) {
      std::vector<float> x(16);
      ops.embed(tokens, table, {x.data(), 4, 4});
      for (int i = 0; i < 16; ++i) test::equal(x[i], values[tokens[i / 4]][i % 4], "value");
      throws(
          [&] {
            ops.embed(std::vector<std::int32_t>{3}, table, {x.data(), 4, 4});
          },
          "token 3 is outside the vocabulary of 3");
      throws([&] { ops.embed(std::vector<std::int32_t>{-1}, table, {x.data(), 4, 4}); }, "token -1");
    }
  });
}

TEST("cpu backend: gathers and reads rows, and refuses others") {
  const auto backend = makeCpuBackend(1);
  onLane(*backend, 1, [](Ops& ops) {
    std::vector<float> x = {1, 2, 3, 4, 5, 6}, out(4), row(2);
    ops.gatherRows({x.data(), 3, 2}, std::vector<std::int64_t>{2, 0}, {out.data(), 2, 2});
    isTrue(out == std::vector<float>{5, 6, 1, 2}, "gathered");
    ops.readRow({x.data(), 3, 2}, 1, row);
    isTrue(row == std::vector<float>{3, 4}, "read");
    throws(
        [&] {
          ops.gatherRows({x.data(), 3, 2}, std::vector<std::int64_t>{3}, {out.data(), 2, 2});
        },
        "outside");
    throws([&] { ops.readRow({x.data(), 3, 2}, 3, row); }, "readRow");
  });
}

TEST("cpu backend: an error in one row of a batch is thrown, and the lane goes on") {
  const int units = static_cast<int>(std::min<std::size_t>(2, cpu::allowedCores().size()));
  const auto backend = makeCpuBackend(units);
  onLane(*backend, 0, [&](Ops& ops) {
    backend->claimUnits(0, 0, units);
    const SampleParams greedy;
    const std::vector<SampleRequest> requests(8, SampleRequest{&greedy, 0, {}, {}});
    std::vector<SampleOutcome> outcomes(8);
    std::vector<float> logits(8 * 100);
    for (int row = 0; row < 8; ++row) logits[row * 100 + 10 * row] = 1;
    logits[5 * 100 + 3] = NAN;
    throws([&] { ops.sample({logits.data(), 8, 100}, requests, outcomes); }, "the model produced NaN logits");
    logits[5 * 100 + 3] = 0;
    ops.sample({logits.data(), 8, 100}, requests, outcomes);
    for (int row = 0; row < 8; ++row) test::equal(outcomes[row].token, 10 * row, "token");
    std::vector<SampleOutcome> scores(8);
    ops.logprobs({logits.data(), 8, 100}, std::vector<std::int32_t>(8, 1), 1, scores);
    near(scores[7].logprob, -std::log(99 + std::exp(1.0)), 1e-6, "ln p");
    test::equal(scores[7].topTokens[0], 70, "best");
    backend->releaseUnits(0);
  });
}

TEST("cpu backend: threads are pinned to the cores that they share, and one that is alone is not") {
  if (cpu::allowedCores().size() < 2) return;
  for (const int units : {1, 2}) {
    const auto backend = makeCpuBackend(units);
    onLane(*backend, 1, [&](Ops&) {
      cpu_set_t set;
      CPU_ZERO(&set);
      for (const int core : cpu::allowedCores()) CPU_SET(core, &set);
      isTrue(sched_setaffinity(0, sizeof set, &set) == 0, "a thread may run on all allowed cores");
      backend->claimUnits(1, 0, 1);
      isTrue(sched_getaffinity(0, sizeof set, &set) == 0, "what a thread may run on can be read");
      const std::size_t expected = units == 1 ? cpu::allowedCores().size() : 1;
      equal(static_cast<std::size_t>(CPU_COUNT(&set)), expected, "cores that the thread may run on");
      backend->releaseUnits(1);
    });
  }
}

TEST("cpu backend: both lanes compute at once what each computes alone") {
  const int units = static_cast<int>(std::min<std::size_t>(2, cpu::allowedCores().size()));
  const auto backend = makeCpuBackend(units);
  const AttentionShape shape{4, 2, 64};
  Sequence expected[2] = {{shape, 300, 1}, {shape, 300, 2}}, actual[2] = {{shape, 300, 1}, {shape, 300, 2}};
  for (Sequence& sequence : expected) AttentionLane(availableIsas().front()).all(sequence, 300);
  const auto lane = [&](int self) {
    onLane(*backend, self, [&](Ops& ops) {
      Sequence& sequence = actual[self];
      for (int step = 0; step < 30; ++step) {
        // Now one unit each, now all of them in turn.
        const bool shared = units > 1 && step % 3 != 0;
        backend->claimUnits(self, shared ? self : 0, shared ? 1 : units);
        const EntryRows entry{0, 10, sequence.done};
        const KvView view = sequence.pages.view();
        const Tensor qkv{sequence.qkv.data() + sequence.done * sequence.cols, 10, sequence.cols};
        ops.appendKv(qkv, {&entry, 1}, {&view, 1}, shape, plainRope(64), {}, {}, 0);
        ops.attention(qkv, {&entry, 1}, {&view, 1}, shape,
                      {sequence.out.data() + sequence.done * 256, 10, 256});
        ops.finish();
        backend->releaseUnits(self);
        sequence.done += 10;
      }
    });
  };
  std::exception_ptr error;
  std::jthread other([&] {
    try {
      lane(1);
    } catch (...) {
      error = std::current_exception();
    }
  });
  lane(0);
  other.join();
  if (error) std::rethrow_exception(error);
  for (int i = 0; i < 2; ++i) {
    test::equal(
        std::memcmp(actual[i].out.data(), expected[i].out.data(), actual[i].out.size() * sizeof(float)), 0,
        "lane " + std::to_string(i));
  }
}

TEST("cpu backend: packing leaves the calling thread free to move, and two backends coexist") {
  const auto one = makeCpuBackend(1), other = makeCpuBackend(1, Isa::portable);
  test::equal(std::string(other->isa()), "portable", "isa");
  cpu_set_t before, after;
  sched_getaffinity(0, sizeof before, &before);
  const std::vector<float> matrix(128 * 128, 0.5f);
  const CheckpointMatrix part{bytesOf(matrix.data()), CheckpointType::f32, 128, 128};
  const auto weight = one->packWeight({&part, 1}, WeightLayout::stacked, WeightClass::bf16);
  sched_getaffinity(0, sizeof after, &after);
  isTrue(CPU_EQUAL(&before, &after), "affinity");
  test::equal(weight->outputs(), std::int64_t{128}, "outputs");
  const auto run = [&](Backend& backend) {
    std::vector<float> x(128, 1.0f), y(128);
    onLane(backend, 0, [&](Ops& ops) {
      backend.claimUnits(0, 0, 1);
      ops.linear({x.data(), 1, 128}, *weight, {}, {y.data(), 1, 128});
      backend.releaseUnits(0);
    });
    near(y[127], 64, 1e-3, "y");
  };
  run(*one);
  run(*other);
}
