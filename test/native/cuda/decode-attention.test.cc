#include "cuda/decode-attention.h"

#include "attention-case.h"
#include "check.h"
#include "cpu/isa.h"
#include "page-pool.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// Sequences whose pages the CPU has filled, on the device; their last tokens attend.
struct DecodeCase {
  DecodeCase(const AttentionShape& shape, PrecisionClass precision, const std::vector<std::int64_t>& contexts)
      : shape(shape), pages({precision, shape.kvHeads, shape.headDim}, contexts) {
    ThreadTeam team(1);
    for (std::size_t i = 0; i < contexts.size(); ++i) {
      Sequence& sequence =
          sequences.emplace_back(shape, contexts[i], 40 + static_cast<unsigned>(contexts[i]), precision);
      cpu::RopeAngles angles;
      const EntryRows entry{0, sequence.tokens, 0};
      const KvView view = sequence.pages.view();
      sequence.rotated = sequence.qkv;
      cpu::appendKv(team, angles, {sequence.rotated.data(), sequence.tokens, sequence.cols}, {&entry, 1},
                    {&view, 1}, shape, plainRope(shape.headDim), {}, {}, 0);
      for (std::size_t page = 0; page < sequence.pages.table.size(); ++page) {
        std::memcpy(pages.page(static_cast<int>(i), static_cast<std::int64_t>(page)),
                    sequence.pages.table[page], sequence.pages.format.pageBytes());
      }
    }
  }

  // out [sequences, heads * headDim]
  std::vector<bf16> run() {
    const cuda::PageTables tables = pages.upload();
    std::vector<bf16> rows;
    std::vector<std::int32_t> contexts;
    for (const Sequence& sequence : sequences) {
      const std::vector<float> last(sequence.rotated.end() - sequence.cols, sequence.rotated.end());
      const std::vector<bf16> row = toBf16s(last);
      rows.insert(rows.end(), row.begin(), row.end());
      contexts.push_back(static_cast<std::int32_t>(sequence.tokens));
    }
    const auto count = static_cast<int>(sequences.size());
    const int most = *std::max_element(contexts.begin(), contexts.end());
    DeviceArray<bf16> qkv(rows), out(sequences.size() * shape.heads * shape.headDim);
    DeviceArray<std::int32_t> lengths(contexts);
    DeviceArray<float> parts(
        std::vector<float>(cuda::decodeAttentionScratch(count, most, shape.heads, shape.headDim) / 4, NAN));
    cuda::decodeAttention({qkv.data(), tables, lengths.data(), count, most, shape.heads, shape.window,
                           parts.data(), out.data()},
                          kStream);
    return out.read();
  }

  // The CPU's attention of the same rows.
  std::vector<float> twin(int index) {
    const Sequence& sequence = sequences[index];
    ThreadTeam team(1);
    cpu::AttentionWorkspace workspace;
    std::vector<float> row(sequence.rotated.end() - sequence.cols, sequence.rotated.end());
    std::vector<float> out(std::size_t(shape.heads) * shape.headDim);
    const EntryRows entry{0, 1, sequence.tokens - 1};
    const KvView view = sequence.pages.view();
    cpu::attention(Isa::portable, team, workspace, {row.data(), 1, sequence.cols}, {&entry, 1}, {&view, 1},
                   shape, {out.data(), 1, static_cast<std::int64_t>(out.size())});
    return out;
  }

  AttentionShape shape;
  DevicePages pages;
  std::vector<Sequence> sequences;
};

void expectReference(const AttentionShape& shape, PrecisionClass precision,
                     const std::vector<std::int64_t>& contexts) {
  DecodeCase problem(shape, precision, contexts);
  const std::vector<bf16> out = problem.run();
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const Sequence& sequence = problem.sequences[i];
    const std::vector<float> twin = problem.twin(static_cast<int>(i));
    for (int head = 0; head < shape.heads; ++head) {
      const Expected expected = reference(sequence, sequence.tokens - 1, head);
      for (int c = 0; c < shape.headDim; ++c) {
        const int at = head * shape.headDim + c;
        const double got = toFloat(out[i * shape.heads * shape.headDim + at]);
        const std::string what = std::to_string(shape.heads) + "/" + std::to_string(shape.kvHeads) +
                                 " heads of " + std::to_string(shape.headDim) + ", window " +
                                 std::to_string(shape.window) + ", context " + std::to_string(contexts[i]) +
                                 (precision == PrecisionClass::int8 ? ", int8" : ", bf16");
        near(got, expected.out[c], expected.tolerance[c] + bf16Error(expected.out[c]) + 1e-5, what);
        near(got, twin[at], 2 * expected.tolerance[c] + bf16Error(twin[at]) + 2e-5, what + ", the CPU's");
      }
    }
  }
}

constexpr PrecisionClass kClasses[] = {PrecisionClass::bf16, PrecisionClass::int8};

}  // namespace

TEST("cuda decode attention: equals float64 and the CPU for contexts around pages and spans") {
  for (const PrecisionClass precision : kClasses) {
    expectReference({4, 2, 64}, precision, {1, 31, 32, 33, 511, 512, 513, 1100});
  }
}

TEST("cuda decode attention: takes every head dimension, and groups of one to sixteen") {
  for (const PrecisionClass precision : kClasses) {
    expectReference({3, 3, 32}, precision, {70});
    expectReference({8, 1, 96}, precision, {70});
    expectReference({8, 2, 128}, precision, {140});
    expectReference({9, 1, 64}, precision, {70});
    expectReference({16, 1, 128}, precision, {140});
  }
}

TEST("cuda decode attention: a window hides older tokens, whole spans of them too") {
  for (const PrecisionClass precision : kClasses) {
    for (const int window : {1, 40, 600}) expectReference({4, 2, 32, window}, precision, {1, 40, 530, 1200});
  }
}

TEST("cuda decode attention: a sequence's bits do not depend on its neighbours") {
  for (const PrecisionClass precision : kClasses) {
    const std::vector<std::int64_t> contexts{700, 5, 1300, 64};
    const std::vector<bf16> together = DecodeCase({4, 2, 32}, precision, contexts).run();
    for (std::size_t i = 0; i < contexts.size(); ++i) {
      const std::vector<bf16> alone = DecodeCase({4, 2, 32}, precision, {contexts[i]}).run();
      isTrue(std::equal(alone.begin(), alone.end(), together.begin() + i * alone.size()),
             "context " + std::to_string(contexts[i]));
    }
  }
}

TEST("cuda decode attention: refuses what it has no kernel for, by name") {
  DeviceArray<bf16> any(1);
  const auto run = [&](int heads, PageFormat format) {
    cuda::DecodeAttention problem;
    problem.tables.format = format;
    problem.sequences = problem.mostTokens = 1;
    problem.heads = heads;
    cuda::decodeAttention(problem, kStream);
  };
  throws([&] { run(2, {PrecisionClass::bf16, 1, 80}); }, "not 80");
  throws([&] { run(17, {PrecisionClass::bf16, 1, 64}); }, "16 query heads");
  throws([&] { run(3, {PrecisionClass::bf16, 2, 64}); }, "multiple of kvHeads");
}
