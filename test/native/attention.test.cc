#include "cpu/attention/attention.h"

#include <cmath>
#include <cstring>

#include "attention-case.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

std::string describe(Isa isa, const AttentionShape& shape, PrecisionClass precision) {
  return std::string(isaName(isa)) + ", " + std::to_string(shape.heads) + "/" +
         std::to_string(shape.kvHeads) + " heads of " + std::to_string(shape.headDim) + ", window " +
         std::to_string(shape.window) + ", " + nameOf(precision);
}

// Of every `rowStep`th row that is done, backwards from the last one.
void expectReference(const Sequence& sequence, std::int64_t rowStep, const std::string& what,
                     std::int64_t firstRow = 0) {
  const AttentionShape& shape = sequence.shape;
  const KvValues values(sequence);
  for (std::int64_t row = sequence.done - 1; row >= firstRow; row -= rowStep) {
    for (int head = 0; head < shape.heads; ++head) {
      const Expected expected = reference(sequence, values, row, head);
      const float* out = sequence.out.data() + (row * shape.heads + head) * shape.headDim;
      const std::string where = what + ", row " + std::to_string(row) + ", head " + std::to_string(head);
      for (int c = 0; c < shape.headDim; ++c) {
        near(out[c], expected.out[c], expected.tolerance[c] + 2e-6, where);
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
        expectReference(sequence, 9, describe(isa, shape, precision));
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
      // The rows around where the second and the third span begin.
      for (const std::int64_t border : {cpu::kSpanTokens, 2 * cpu::kSpanTokens}) {
        lane.append(sequence, border - 19 - sequence.done);
        lane.step({{&sequence, 64}});
        expectReference(sequence, 9, describe(isa, shape, precision), border - 19);
      }
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
      expectReference(sequence, 13, describe(isa, shape, PrecisionClass::bf16));
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
                         describe(isa, shape, precision) + ", chunks of " + std::to_string(chunk));
        }
      }
    }
  }
}

namespace {

// `first` tokens with exact pages, which nobody attends from; then all but the last full page of them in the
// classes of `mixture`, in turn; then the rest in `chunk`s.
void mixed(AttentionLane& lane, Sequence& sequence, std::int64_t first, std::int64_t chunk,
           const std::vector<PrecisionClass>& mixture) {
  lane.append(sequence, first);
  for (std::int64_t page = 0; page + 1 < first / kPageTokens; ++page) {
    const PrecisionClass precision = mixture[page % mixture.size()];
    if (bitsOf(precision) < bitsOf(sequence.pages.format.precision)) {
      if (precision == PrecisionClass::far) sequence.pages.convert(lane.isa, page, PrecisionClass::int4);
      sequence.pages.convert(lane.isa, page, precision);
    }
  }
  lane.all(sequence, chunk);
}

const std::vector<PrecisionClass> kAllClasses(kPrecisionClasses.begin(), kPrecisionClasses.end());

}  // namespace

TEST("attention: pages of every class in one sequence equal float64 over what they hold") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const AttentionShape shape :
         {AttentionShape{4, 1, 64}, AttentionShape{2, 2, 80}, AttentionShape{8, 1, 128},
          AttentionShape{7, 1, 112}, AttentionShape{12, 1, 16}, AttentionShape{3, 1, 256},
          AttentionShape{4, 2, 96, 150}}) {
      for (const std::int64_t chunk : {1, 64}) {
        Sequence sequence(shape, 340, 21);
        mixed(lane, sequence, 300, chunk, kAllClasses);
        expectReference(sequence, 13, describe(isa, shape, PrecisionClass::bf16) + ", mixed", 300);
      }
    }
  }
}

TEST("attention: nobody sees the tokens of a page that was given up") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const std::int64_t chunk : {1, 40}) {
      const AttentionShape shape{4, 2, 64};
      Sequence sequence(shape, 1200, 23);
      lane.append(sequence, 1160);
      // The first, neighbours, a whole span but for its last page, and the last full one.
      for (const std::int64_t page : {0, 5, 6, 7, 35}) sequence.pages.giveUp(page);
      for (std::int64_t page = 10; page < 31; ++page) sequence.pages.giveUp(page);
      lane.all(sequence, chunk);
      expectReference(sequence, 7, describe(isa, shape, PrecisionClass::bf16) + ", with gaps", 1160);
    }
  }
}

TEST("attention: pages of one class equal float64 over what they hold, from bf16 and from int8") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const PrecisionClass from : kPrecisions) {
      for (const PrecisionClass to : {PrecisionClass::int8, PrecisionClass::int4, PrecisionClass::int2}) {
        const AttentionShape shape{4, 2, 64};
        Sequence sequence(shape, cpu::kSpanTokens + 100, 22, from);
        mixed(lane, sequence, cpu::kSpanTokens + 40, 1, {to});
        expectReference(sequence, 11, describe(isa, shape, to), cpu::kSpanTokens + 40);
      }
    }
  }
}

TEST("attention: with pages of every class, neither chunks nor the team change a bit") {
  const std::vector<std::vector<PrecisionClass>> mixtures{
      kAllClasses,
      {PrecisionClass::int4},
      {PrecisionClass::int2, PrecisionClass::int2, PrecisionClass::int2, PrecisionClass::int4,
       PrecisionClass::int4}};
  for (const Isa isa : availableIsas()) {
    for (const std::vector<PrecisionClass>& mixture : mixtures) {
      for (const AttentionShape shape : {AttentionShape{4, 1, 64}, AttentionShape{3, 1, 80},
                                         AttentionShape{16, 2, 32, 200}, AttentionShape{20, 1, 16}}) {
        AttentionLane single(isa);
        Sequence whole(shape, 430, 23);
        mixed(single, whole, 390, 40, mixture);
        for (const std::int64_t chunk : {1, 7, 32}) {
          AttentionLane lane(isa, static_cast<int>(chunk % 3) + 1);
          Sequence chunked(shape, 430, 23);
          mixed(lane, chunked, 390, chunk, mixture);
          expectSameBits(chunked, whole,
                         describe(isa, shape, mixture.back()) + ", chunks of " + std::to_string(chunk));
        }
      }
    }
  }
}

TEST("attention: far pages have the bits of int4 ones in their places, whoever are their neighbours") {
  constexpr PrecisionClass kFar = PrecisionClass::far, kInt4 = PrecisionClass::int4;
  const std::vector<std::vector<PrecisionClass>> mixtures{
      {kFar},
      {kInt4, kFar, kFar, PrecisionClass::int2, kFar, kInt4, PrecisionClass::bf16},
      {PrecisionClass::int2, kFar, PrecisionClass::int2, PrecisionClass::int2, PrecisionClass::int8}};
  for (const Isa isa : availableIsas()) {
    for (const std::vector<PrecisionClass>& mixture : mixtures) {
      std::vector<PrecisionClass> inPlace = mixture;
      std::ranges::replace(inPlace, kFar, kInt4);
      for (const AttentionShape shape : {AttentionShape{4, 2, 64}, AttentionShape{3, 1, 80},
                                         AttentionShape{16, 2, 32, 200}, AttentionShape{20, 1, 16}}) {
        for (const std::int64_t chunk : {1, 12}) {
          // In two spans, which a team shares.
          const std::int64_t before = cpu::kSpanTokens + 200, tokens = before + 12;
          AttentionLane lane(isa, chunk == 1 ? 3 : 1);
          Sequence expected(shape, tokens, 26), sequence(shape, tokens, 26);
          mixed(lane, expected, before, chunk, inPlace);
          mixed(lane, sequence, before, chunk, mixture);
          expectSameBits(sequence, expected,
                         describe(isa, shape, kFar) + ", chunks of " + std::to_string(chunk));
        }
      }
    }
  }
}

TEST("attention: NaN that lay in a page is not hidden by its class") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const PrecisionClass precision : kPrecisionClasses) {
      for (const int part : {1, 2}) {  // a key, a value
        Sequence sequence({1, 1, 64}, 70, 24);
        sequence.qkv[5 * sequence.cols + part * 64 + 3] = NAN;
        mixed(lane, sequence, 69, 1, {precision});
        bool found = false;
        for (int c = 0; c < 64; ++c) found |= std::isnan(sequence.out[69 * 64 + c]);
        isTrue(found, std::string(isaName(isa)) + ", " + nameOf(precision));
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
    for (const auto& [window, threads] : {std::pair{0, 3}, {1500, 2}}) {
      const AttentionShape shape{4, 1, 64, window};
      const std::int64_t tokens = 2 * cpu::kSpanTokens + 70;
      Sequence alone(shape, tokens, 14);
      AttentionLane single(isa);
      single.append(alone, tokens - 12);
      single.all(alone, 12);
      AttentionLane lane(isa, threads);
      Sequence spread(shape, tokens, 14);
      lane.append(spread, tokens - 12);
      for (int i = 0; i < 12; ++i) lane.step({{&spread, 1}});
      expectSameBits(spread, alone, std::string(isaName(isa)) + ", team of " + std::to_string(threads));
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

TEST("attention: channels far above the others, in keys and in queries, equal float64 in every class") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const PrecisionClass precision : kPrecisionClasses) {
      const AttentionShape shape{4, 2, 64};
      Sequence sequence(shape, 140, 25);
      for (std::int64_t row = 0; row < sequence.tokens; ++row) {
        float* x = sequence.qkv.data() + row * sequence.cols;
        for (int head = 0; head < shape.heads; ++head) x[head * 64 + 7] *= 20;
        for (int head = 0; head < shape.kvHeads; ++head) x[(shape.heads + head) * 64 + 50] *= 20;
      }
      mixed(lane, sequence, 130, 1, {precision});
      expectReference(sequence, 3, describe(isa, shape, precision) + ", outliers", 130);
    }
  }
}

TEST("attention: arithmetic adds less than a quarter of the error that a packed page's codes have") {
  constexpr std::int64_t kBefore = 330, kRows = 6;
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const float outlier : {1.0f, 10.0f}) {
      for (const PrecisionClass precision : {PrecisionClass::int4, PrecisionClass::int2}) {
        const AttentionShape shape{4, 1, 128};
        Sequence packed(shape, kBefore + kRows, 3), exact(shape, kBefore + kRows, 3);
        for (Sequence* sequence : {&packed, &exact}) {
          for (std::int64_t row = 0; row < sequence->tokens; ++row) {
            float* x = sequence->qkv.data() + row * sequence->cols;
            for (int head = 0; head < shape.heads; ++head) x[head * 128 + 7] *= outlier;
            for (int head = 0; head < shape.kvHeads; ++head) x[(shape.heads + head) * 128 + 50] *= outlier;
          }
        }
        mixed(lane, packed, kBefore, 1, {precision});
        mixed(lane, exact, kBefore, 1, {PrecisionClass::bf16});
        const KvValues packedValues(packed), exactValues(exact);
        double ofCodes = 0, ofArithmetic = 0;
        for (std::int64_t row = kBefore; row < packed.tokens; ++row) {
          for (int head = 0; head < shape.heads; ++head) {
            const Expected held = reference(packed, packedValues, row, head);
            const Expected original = reference(exact, exactValues, row, head);
            const float* out = packed.out.data() + (row * shape.heads + head) * shape.headDim;
            for (int c = 0; c < shape.headDim; ++c) {
              ofCodes += std::pow(held.out[c] - original.out[c], 2);
              ofArithmetic += std::pow(out[c] - held.out[c], 2);
            }
          }
        }
        isTrue(ofArithmetic < ofCodes / 16,
               describe(isa, shape, precision) + ": " + std::to_string(std::sqrt(ofArithmetic / ofCodes)));
      }
    }
  }
}

TEST("attention: a token that is not seen yet counts for nothing, however large its value is") {
  for (const Isa isa : availableIsas()) {
    const AttentionShape shape{4, 2, 64};
    const auto run = [&](std::int64_t chunk) {
      Sequence sequence(shape, 64, 26, PrecisionClass::int8);
      for (std::int64_t row = 0; row < sequence.tokens; ++row) {
        float* values = sequence.qkv.data() + row * sequence.cols + (shape.heads + shape.kvHeads) * 64;
        for (int c = 0; c < shape.kvHeads * 64; ++c) values[c] *= std::exp2(static_cast<float>(row % 32));
      }
      AttentionLane lane(isa);
      lane.all(sequence, chunk);
      return sequence;
    };
    const Sequence whole = run(64);
    expectSameBits(run(1), whole, isaName(isa));
    expectReference(whole, 5, isaName(isa));
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
