#include "cpu/append-kv.h"

#include "attention-case.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// One head's values after norm (where a gain is given) and RoPE, in float64.
std::vector<double> prepared(const float* head, int headDim, std::int64_t position, const RopeTable& rope,
                             std::span<const float> gain, double eps) {
  std::vector<double> x(head, head + headDim);
  if (!gain.empty()) {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double rms = std::sqrt(squares / headDim + eps);
    for (int c = 0; c < headDim; ++c) x[c] = x[c] / rms * gain[c];
  }
  const int half = headDim / 2;
  for (int i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * rope.inverseFrequencies[i];
    const double cosine = std::cos(angle) * rope.attentionFactor,
                 sine = std::sin(angle) * rope.attentionFactor;
    const double a = x[i], b = x[i + half];
    x[i] = a * cosine - b * sine;
    x[i + half] = b * cosine + a * sine;
  }
  return x;
}

struct Gains {
  std::vector<float> q, k;
};

void append(Sequence& sequence, std::int64_t position, std::int64_t chunk, const RopeTable& rope,
            const Gains& gains, int threads = 1) {
  ThreadTeam team(threads);
  team.pin(coresFor(threads));
  cpu::RopeAngles angles;
  sequence.rotated = sequence.qkv;
  const KvView view = sequence.pages.view();
  for (std::int64_t row = 0; position + row < sequence.tokens; row += chunk) {
    const EntryRows entry{row, std::min(chunk, sequence.tokens - position - row), position + row};
    cpu::appendKv(team, angles, {sequence.rotated.data(), sequence.tokens, sequence.cols}, {&entry, 1},
                  {&view, 1}, sequence.shape, rope, gains.q, gains.k, 1e-6f);
  }
}

void expectPages(const Sequence& sequence, const RopeTable& rope, const Gains& gains) {
  const auto& [heads, kvHeads, d, window] = sequence.shape;
  const bool int8 = sequence.pages.format.precision == PrecisionClass::int8;
  for (std::int64_t token = 0; token < sequence.tokens; ++token) {
    const float* row = sequence.qkv.data() + token * sequence.cols;
    for (int head = 0; head < heads; ++head) {
      const auto q = prepared(row + head * d, d, token, rope, gains.q, 1e-6);
      for (int c = 0; c < d; ++c)
        near(sequence.rotated[token * sequence.cols + head * d + c], q[c], 3e-6, "q");
    }
    for (int head = 0; head < kvHeads; ++head) {
      const auto k = prepared(row + (heads + head) * d, d, token, rope, gains.k, 1e-6);
      const float* v = row + (heads + kvHeads + head) * d;
      double largestK = 0, largestV = 0;
      for (int c = 0; c < d; ++c) {
        largestK = std::max(largestK, std::abs(k[c]));
        largestV = std::max(largestV, std::abs(static_cast<double>(v[c])));
      }
      for (int c = 0; c < d; ++c) {
        // Half a step of either format.
        near(sequence.pages.key(head, token, c), k[c], int8 ? largestK / 253 : std::abs(k[c]) / 255 + 1e-6,
             "k");
        near(sequence.pages.value(head, token, c), v[c], int8 ? largestV / 253 : std::abs(v[c]) / 255, "v");
      }
    }
  }
}

}  // namespace

TEST("append kv: q, k and v are normed, rotated and stored within half a step of each format") {
  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const AttentionShape shape : {AttentionShape{4, 2, 64}, AttentionShape{3, 1, 80}}) {
      RopeTable rope = plainRope(shape.headDim);
      rope.attentionFactor = 1.1f;
      Gains gains;
      for (const bool normed : {false, true}) {
        for (int c = 0; normed && c < shape.headDim; ++c) {
          gains.q.push_back(0.5f + 0.01f * static_cast<float>(c));
          gains.k.push_back(1.5f - 0.01f * static_cast<float>(c));
        }
        Sequence sequence(shape, 70, 3, precision);
        append(sequence, 0, 70, rope, gains);
        expectPages(sequence, rope, gains);
      }
    }
  }
}

TEST("append kv: pages hold the same bytes however the tokens come and whatever the team") {
  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    const AttentionShape shape{4, 2, 64};
    const RopeTable rope = plainRope(64);
    Sequence whole(shape, 100, 5, precision);
    append(whole, 0, 100, rope, {});
    for (const std::int64_t chunk : {1, 13, 32, 64}) {
      Sequence chunked(shape, 100, 5, precision);
      append(chunked, 0, chunk, rope, {}, static_cast<int>(chunk % 3) + 1);
      test::equal(std::memcmp(chunked.pages.memory.data(), whole.pages.memory.data(),
                              whole.pages.memory.size() * sizeof(float)),
                  0, "pages by chunks of " + std::to_string(chunk));
      test::equal(
          std::memcmp(chunked.rotated.data(), whole.rotated.data(), whole.rotated.size() * sizeof(float)), 0,
          "q by chunks of " + std::to_string(chunk));
    }
  }
}

TEST("append kv: what lies behind the last token is zero, not the arena's garbage") {
  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    Sequence sequence({1, 1, 32}, 33, 6, precision);
    append(sequence, 0, 33, plainRope(32), {});
    for (int token = 33; token < 64; ++token) {
      for (int c = 0; c < 32; ++c) {
        test::equal(sequence.pages.key(0, token, c), 0.0, "key");
        test::equal(sequence.pages.value(0, token, c), 0.0, "value");
      }
    }
  }
}

TEST("append kv: rows of zeros survive int8") {
  Sequence sequence({1, 1, 32}, 4, 7, PrecisionClass::int8);
  std::fill(sequence.qkv.begin(), sequence.qkv.end(), 0.0f);
  append(sequence, 0, 4, plainRope(32), {});
  for (int c = 0; c < 32; ++c) test::equal(sequence.pages.key(0, 2, c), 0.0, "key");
}

TEST("append kv: refuses what does not fit, by name") {
  ThreadTeam team(1);
  cpu::RopeAngles angles;
  Sequence sequence({2, 1, 64}, 40, 8);
  const KvView view = sequence.pages.view();
  const auto run = [&](EntryRows entry, const RopeTable& rope, std::span<const float> gain) {
    cpu::appendKv(team, angles, {sequence.qkv.data(), 40, sequence.cols}, {&entry, 1}, {&view, 1},
                  sequence.shape, rope, gain, gain, 1e-6f);
  };
  throws([&] { run({0, 40, 30}, plainRope(64), {}); }, "page table");
  throws([&] { run({10, 40, 0}, plainRope(64), {}); }, "rows");
  throws([&] { run({0, 40, 0}, plainRope(32), {}); }, "frequencies");
  throws([&] { run({0, 40, 0}, plainRope(64), std::vector<float>(32)); }, "gain");
}
