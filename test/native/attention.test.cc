#include "cpu/attention/attention.h"

#include <cstring>

#include "attention-case.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

std::string nameOf(Isa isa, const AttentionShape& shape, PrecisionClass precision) {
  return std::string(isaName(isa)) + ", " + std::to_string(shape.heads) + "/" +
         std::to_string(shape.kvHeads) + " heads of " + std::to_string(shape.headDim) + ", window " +
         std::to_string(shape.window) + (precision == PrecisionClass::int8 ? ", int8" : ", bf16");
}

void expectReference(const Sequence& sequence, std::int64_t rowStep, const std::string& what) {
  const AttentionShape& shape = sequence.shape;
  for (std::int64_t row = sequence.tokens - 1; row >= 0; row -= rowStep) {
    for (int head = 0; head < shape.heads; ++head) {
      const Expected expected = reference(sequence, row, head);
      const float* out = sequence.out.data() + (row * shape.heads + head) * shape.headDim;
      for (int c = 0; c < shape.headDim; ++c) {
        near(out[c], expected.out[c], expected.tolerance[c] + 2e-6,
             what + ", row " + std::to_string(row) + ", head " + std::to_string(head));
      }
    }
  }
}

void expectSameBits(const Sequence& actual, const Sequence& expected, const std::string& what) {
  test::equal(std::memcmp(actual.out.data(), expected.out.data(), actual.out.size() * sizeof(float)), 0,
              what);
}

constexpr PrecisionClass kPrecisions[] = {PrecisionClass::bf16, PrecisionClass::int8};

}  // namespace

TEST("attention: a prompt in one piece equals float64, for every head shape, precision and instruction set") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const PrecisionClass precision : kPrecisions) {
      for (const AttentionShape shape :
           {AttentionShape{2, 2, 64}, AttentionShape{4, 2, 80}, AttentionShape{4, 1, 96},
            AttentionShape{8, 1, 128}, AttentionShape{3, 1, 256}, AttentionShape{10, 2, 16},
            AttentionShape{7, 1, 112}}) {
        Sequence sequence(shape, 75, 7, precision);
        lane.all(sequence, 75);
        expectReference(sequence, 9, nameOf(isa, shape, precision));
      }
    }
  }
}

TEST("attention: contexts beyond a span equal float64") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const PrecisionClass precision : kPrecisions) {
      const AttentionShape shape{4, 1, 64};
      Sequence sequence(shape, 2 * cpu::kSpanTokens + 45, 8, precision);
      lane.all(sequence, sequence.tokens);
      expectReference(sequence, 700, nameOf(isa, shape, precision));
    }
  }
}

TEST("attention: a window hides what is older") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const int window : {1, 31, 32, 40, 100}) {
      const AttentionShape shape{4, 2, 32, window};
      Sequence sequence(shape, 201, 9);
      lane.all(sequence, sequence.tokens);
      expectReference(sequence, 13, nameOf(isa, shape, PrecisionClass::bf16));
    }
  }
}

TEST("attention: neither chunks nor decoding token by token change a bit") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const PrecisionClass precision : kPrecisions) {
      for (const AttentionShape shape : {AttentionShape{4, 1, 64}, AttentionShape{3, 1, 80},
                                         AttentionShape{4, 2, 32, 70}, AttentionShape{2, 2, 48}}) {
        Sequence whole(shape, 151, 10, precision);
        lane.all(whole, whole.tokens);
        for (const std::int64_t chunk : {1, 7, 32, 50}) {
          Sequence chunked(shape, 151, 10, precision);
          lane.all(chunked, chunk);
          expectSameBits(chunked, whole,
                         nameOf(isa, shape, precision) + ", chunks of " + std::to_string(chunk));
        }
      }
    }
  }
}

TEST("attention: a sequence alone and in a crowd gets the same bits, whatever the team") {
  for (const Isa isa : availableIsas()) {
    const AttentionShape shape{4, 2, 64};
    Sequence alone(shape, 90, 11);
    AttentionLane(isa).all(alone, 90);
    for (const int threads : {1, 2, 3}) {
      AttentionLane lane(isa, threads);
      Sequence a(shape, 40, 12), b(shape, 90, 11), c(shape, 130, 13);
      lane.step({{&a, 39}, {&b, 50}});
      lane.step({{&c, 100}, {&b, 39}, {&a, 1}});
      lane.step({{&b, 1}, {&c, 30}});
      expectSameBits(b, alone, std::string(isaName(isa)) + ", team of " + std::to_string(threads));
    }
  }
}

TEST("attention: one long sequence's decode is spread over the team without changing a bit") {
  for (const Isa isa : availableIsas()) {
    for (const int window : {0, 1500}) {
      const AttentionShape shape{4, 1, 64, window};
      const std::int64_t tokens = 2 * cpu::kSpanTokens + 70;
      Sequence alone(shape, tokens, 14);
      AttentionLane single(isa);
      single.all(alone, tokens);
      for (const int threads : {2, 3}) {
        AttentionLane lane(isa, threads);
        Sequence spread(shape, tokens, 14);
        lane.step({{&spread, tokens - 12}});
        for (int i = 0; i < 12; ++i) lane.step({{&spread, 1}});
        expectSameBits(spread, alone, std::string(isaName(isa)) + ", team of " + std::to_string(threads));
      }
    }
  }
}

TEST("attention: scores far apart neither overflow nor vanish") {
  for (const Isa isa : availableIsas()) {
    const AttentionShape shape{1, 1, 64};
    Sequence sequence(shape, 70, 15);
    for (std::int64_t row = 0; row < sequence.tokens; ++row) {
      for (int c = 0; c < 2 * shape.headDim; ++c) sequence.qkv[row * sequence.cols + c] *= 30;
    }
    AttentionLane(isa).all(sequence, 70);
    expectReference(sequence, 3, isaName(isa));
  }
}

TEST("attention: NaN in a query is not hidden, and stays with its row") {
  for (const Isa isa : availableIsas()) {
    const AttentionShape shape{2, 1, 64};
    Sequence sequence(shape, 40, 16);
    sequence.qkv[39 * sequence.cols] = NAN;
    AttentionLane(isa).all(sequence, 40);
    isTrue(std::isnan(sequence.out[39 * 128]), "the row's head is NaN");
    isTrue(!std::isnan(sequence.out[39 * 128 + 64]), "the row's other head is not");
    isTrue(!std::isnan(sequence.out[38 * 128]), "the row before is not");
  }
}

TEST("attention: refuses what does not fit, by name") {
  AttentionLane lane(Isa::portable);
  Sequence odd({2, 1, 64}, 40, 17);
  std::vector<float> out(40 * 128);
  const EntryRows entry{0, 40, 0};
  const KvView view = odd.pages.view();
  const Tensor qkv{odd.qkv.data(), 40, odd.cols};
  const auto run = [&](const AttentionShape& shape, const EntryRows& rows, Tensor to) {
    cpu::attention(Isa::portable, lane.team, lane.workspace, qkv, {&rows, 1}, {&view, 1}, shape, to);
  };
  throws([&] { run({2, 1, 72}, entry, {out.data(), 40, 128}); }, "multiples of 16");
  throws([&] { run({3, 2, 64}, entry, {out.data(), 40, 128}); }, "multiple of kvHeads");
  throws([&] { run({2, 1, 64}, entry, {out.data(), 40, 64}); }, "columns");
  throws([&] { run({2, 1, 64}, {0, 40, 30}, {out.data(), 40, 128}); }, "page table");
  throws([&] { run({2, 1, 64}, {1, 40, 0}, {out.data(), 40, 128}); }, "rows");
}
