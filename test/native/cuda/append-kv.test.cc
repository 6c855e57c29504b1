#include "cuda/append-kv.h"

#include "attention-case.h"
#include "check.h"
#include "cuda/rope-angles.h"
#include "page-pool.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// Appends tokens of several sequences in steps, on the device and, of the same bf16 values, by the CPU's
// twin.
struct AppendCase {
  AppendCase(const AttentionShape& shape, PrecisionClass precision, const std::vector<std::int64_t>& tokens,
             bool normed)
      : shape(shape),
        cols((shape.heads + 2 * shape.kvHeads) * shape.headDim),
        tokens(tokens),
        format{precision, shape.kvHeads, shape.headDim},
        pages(format, tokens),
        twin(format, tokens),
        rope(plainRope(shape.headDim)) {
    if (normed) {
      qGain = randomFloats(shape.headDim, 11, 0.3f, 1);
      kGain = randomFloats(shape.headDim, 12, 0.3f, 1);
    }
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      inputs.push_back(randomBf16s(tokens[i] * cols, 20 + static_cast<unsigned>(i)));
      outputs.emplace_back(inputs.back().size());
      twinOutputs.emplace_back(inputs.back().begin(), inputs.back().end());
      std::ranges::transform(inputs.back(), twinOutputs.back().begin(), [](bf16 x) { return toFloat(x); });
    }
  }

  // All tokens, so many of each sequence a step.
  void run(std::int64_t chunk) {
    const cuda::PageTables tables = pages.upload();
    std::int64_t longest = 0;
    for (const std::int64_t count : tokens) longest = std::max(longest, count);
    for (std::int64_t begin = 0; begin < longest; begin += chunk) step(tables, begin, chunk);
    pages.download();
    for (std::size_t i = 0; i < tokens.size(); ++i) appendTwin(static_cast<int>(i));
  }

  void step(const cuda::PageTables& tables, std::int64_t begin, std::int64_t chunk) {
    std::vector<bf16> rows;
    std::vector<std::int32_t> positions;
    std::vector<cuda::KvPiece> pieces;
    int longestPiece = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      for (std::int64_t at = begin; at < std::min(begin + chunk, tokens[i]);) {
        const auto inPage = static_cast<int>(at % kPageTokens);
        const auto count = static_cast<int>(
            std::min<std::int64_t>(kPageTokens - inPage, std::min(begin + chunk, tokens[i]) - at));
        pieces.push_back({static_cast<std::int32_t>(positions.size()), count, static_cast<std::int32_t>(i),
                          static_cast<std::int32_t>(at / kPageTokens), inPage});
        longestPiece = std::max(longestPiece, count);
        for (int k = 0; k < count; ++k, ++at) {
          positions.push_back(static_cast<std::int32_t>(at));
          rows.insert(rows.end(), inputs[i].begin() + at * cols, inputs[i].begin() + (at + 1) * cols);
        }
      }
    }
    DeviceArray<bf16> qkv(rows);
    DeviceArray<std::int32_t> where(positions);
    DeviceArray<float> frequencies(rope.inverseFrequencies), angles(positions.size() * shape.headDim),
        q(qGain.empty() ? std::vector<float>(1) : qGain), k(kGain.empty() ? std::vector<float>(1) : kGain);
    DeviceArray<cuda::KvPiece> all(pieces);
    cuda::ropeAngles({where.data(), frequencies.data(), angles.data(),
                      static_cast<std::int64_t>(positions.size()), shape.headDim / 2, rope.attentionFactor},
                     kStream);
    cuda::appendKv(
        {qkv.data(), angles.data(), all.data(), static_cast<int>(pieces.size()), longestPiece, tables,
         shape.heads, qGain.empty() ? nullptr : q.data(), kGain.empty() ? nullptr : k.data(), 1e-6f},
        kStream);
    const std::vector<bf16> after = qkv.read();
    for (const cuda::KvPiece& piece : pieces) {
      std::copy_n(
          after.begin() + std::int64_t{piece.row} * cols, std::int64_t{piece.count} * cols,
          outputs[piece.sequence].begin() + (std::int64_t{piece.page} * kPageTokens + piece.token) * cols);
    }
  }

  void appendTwin(int sequence) {
    ThreadTeam team(1);
    cpu::RopeAngles angles;
    const std::vector<std::byte*> table = twin.pagesOf(sequence, tokens[sequence]);
    const KvView view{format, table, {}};
    const EntryRows entry{0, tokens[sequence], 0};
    cpu::appendKv(team, angles, {twinOutputs[sequence].data(), tokens[sequence], cols}, {&entry, 1},
                  {&view, 1}, shape, rope, qGain, kGain, 1e-6f);
  }

  AttentionShape shape;
  std::int64_t cols;
  std::vector<std::int64_t> tokens;
  PageFormat format;
  DevicePages pages, twin;
  RopeTable rope;
  std::vector<float> qGain, kGain;
  std::vector<std::vector<bf16>> inputs, outputs;
  std::vector<std::vector<float>> twinOutputs;
};

// A page's element and the step to the next value of its class.
struct Element {
  double value, step;
};

Element elementAt(const PageFormat& format, const std::byte* page, std::size_t tile, std::size_t index,
                  std::size_t scales, int token) {
  if (format.precision == PrecisionClass::bf16) {
    bf16 bits;
    std::memcpy(&bits, page + tile + 2 * index, 2);
    return {toFloat(bits), 2 * bf16Error(toFloat(bits))};
  }
  float scale;
  std::memcpy(&scale, page + scales + token * sizeof(float), sizeof scale);
  return {static_cast<double>(static_cast<std::int8_t>(page[tile + index])) * scale, scale};
}

// What the twin wrote, but for a rounding that went the other way.
void expectTwin(AppendCase& run, const std::string& what) {
  const PageFormat& format = run.format;
  for (std::size_t i = 0; i < run.tokens.size(); ++i) {
    const auto sequence = static_cast<int>(i);
    const std::int64_t padded = (run.tokens[i] + kPageTokens - 1) / kPageTokens * kPageTokens;
    for (std::int64_t at = 0; at < padded; ++at) {
      const auto token = static_cast<int>(at % kPageTokens);
      const std::byte* page = run.pages.page(sequence, at / kPageTokens);
      const std::byte* expected = run.twin.page(sequence, at / kPageTokens);
      for (int head = 0; head < format.kvHeads; ++head) {
        for (int c = 0; c < format.headDim; ++c) {
          const auto same = [&](std::size_t tile, std::size_t index, std::size_t scales, const char* name) {
            const Element got = elementAt(format, page, tile, index, scales, token);
            const Element want = elementAt(format, expected, tile, index, scales, token);
            near(got.value, want.value, 1.01 * want.step + 1e-6, what + ", " + name);
          };
          same(format.keys(head), PageFormat::keyIndex(token, c), format.keyScales(head), "key");
          same(format.values(head), format.valueIndex(token, c), format.valueScales(head), "value");
        }
      }
      if (at >= run.tokens[i]) continue;
      for (int c = 0; c < run.shape.heads * run.shape.headDim; ++c) {
        const double want = run.twinOutputs[i][at * run.cols + c];
        near(toFloat(run.outputs[i][at * run.cols + c]), want, bf16Error(want) + 1e-5, what + ", query");
      }
    }
  }
}

}  // namespace

TEST("cuda append kv: writes what the CPU writes, in both classes, with and without norms") {
  for (const AttentionShape& shape : {AttentionShape{2, 1, 16}, {3, 1, 48}, {4, 2, 128}, {2, 2, 256}}) {
    for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
      for (const bool normed : {false, true}) {
        AppendCase run(shape, precision, {35, 3, 64}, normed);
        run.run(40);
        expectTwin(run, "head of " + std::to_string(shape.headDim));
      }
    }
  }
}

TEST("cuda append kv: writes each page in its own class, whatever the pool's") {
  AppendCase mixed({2, 1, 64}, PrecisionClass::bf16, {70}, false),
      bf16({2, 1, 64}, PrecisionClass::bf16, {70}, false),
      int8({2, 1, 64}, PrecisionClass::int8, {70}, false);
  mixed.pages.setClass(0, 1, PrecisionClass::int8);
  for (AppendCase* each : {&mixed, &bf16, &int8}) each->run(50);
  const auto holds = [&](std::int64_t index, AppendCase& like) {
    return std::memcmp(mixed.pages.page(0, index), like.pages.page(0, index), like.format.pageBytes()) == 0;
  };
  isTrue(holds(0, bf16) && holds(1, int8) && holds(2, bf16), "pages in classes of their own");
}

TEST("cuda append kv: pages do not depend on how the tokens were cut into steps") {
  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    AppendCase together({2, 1, 64}, precision, {70, 33}, true),
        chunked({2, 1, 64}, precision, {70, 33}, true), single({2, 1, 64}, precision, {70, 33}, true);
    together.run(100);
    chunked.run(19);
    single.run(1);
    const auto same = [&](const AppendCase& other) {
      return std::memcmp(together.pages.host().data(), other.pages.host().data(),
                         together.pages.host().size() * sizeof(float)) == 0 &&
             together.outputs == other.outputs;
    };
    isTrue(same(chunked), "in chunks");
    isTrue(same(single), "one at a time");
  }
}

TEST("cuda append kv: other layers' pages and other blocks keep their bytes") {
  AppendCase run({2, 1, 32}, PrecisionClass::int8, {33, 1}, false);
  const std::vector<float> before = run.pages.host();
  run.run(33);
  const std::size_t page = run.format.pageBytes() / sizeof(float);
  std::size_t changed = 0;
  for (std::size_t i = 0; i < before.size(); i += page) {
    const bool differs = std::memcmp(&before[i], &run.pages.host()[i], run.format.pageBytes()) != 0;
    if (differs) test::equal(i / page % 2, std::size_t{1}, "only the layer's own page of a block");
    changed += differs;
  }
  test::equal(changed, std::size_t{3}, "pages that were written");
}
