#pragma once

// A sequence's tokens through appendKv and attention, in whatever steps a test likes, and the float64
// reference.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "core/bf16.h"
#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/append-kv.h"
#include "cpu/attention/attention.h"
#include "cpu/attention/kernels.h"
#include "cpu/cores.h"
#include "cpu/requantize/requantize.h"
#include "kv/page-content.h"

namespace tandem::test {

inline std::vector<int> coresFor(int threads) {
  const std::vector<int>& allowed = cpu::allowedCores();
  std::vector<int> cores;
  for (int i = 0; i < threads; ++i) cores.push_back(allowed[i % allowed.size()]);
  return cores;
}

inline RopeTable plainRope(int headDim, double theta = 10000) {
  RopeTable rope;
  for (int i = 0; i < headDim / 2; ++i) {
    rope.inverseFrequencies.push_back(static_cast<float>(std::pow(theta, -2.0 * i / headDim)));
  }
  return rope;
}

// Pages that hold garbage, NaN among it, until they are written: as an arena's do.
struct Pages {
  Pages(PageFormat format, std::int64_t tokens) : format(format) {
    const auto count = static_cast<std::size_t>((tokens + kPageTokens - 1) / kPageTokens);
    memory.assign(count * format.pageBytes() / sizeof(float), NAN);
    classes.assign(count, format.precision);
    for (std::size_t i = 0; i < count; ++i) {
      table.push_back(reinterpret_cast<std::byte*>(memory.data()) + i * format.pageBytes());
    }
  }
  // The table points into the memory.
  Pages(Pages&&) = default;
  Pages(const Pages&) = delete;

  KvView view() const { return {format, table, classes}; }

  // Writes a full page again in another class.
  void convert(Isa isa, std::int64_t page, PrecisionClass precision) {
    const PageFormat to = format.in(precision);
    converted.emplace_back(to.pageBytes() / sizeof(float), NAN);
    auto* place = reinterpret_cast<std::byte*>(converted.back().data());
    std::byte* detail = nullptr;
    if (precision == PrecisionClass::far) {
      converted.emplace_back(format.in(PrecisionClass::int4).pageBytes() / sizeof(float), NAN);
      detail = reinterpret_cast<std::byte*>(converted.back().data());
    }
    cpu::requantizePage(isa, {table[page], place, format.in(classes[page]), to, detail});
    table[page] = place;
    classes[page] = precision;
  }

  void giveUp(std::int64_t page) {
    table[page] = nullptr;
    classes[page] = PrecisionClass::none;
  }

  double key(int kvHead, std::int64_t token, int channel) const {
    const PageFormat here = formatOf(token);
    const auto slot = static_cast<int>(token % kPageTokens);
    if (isPacked(here.precision)) {
      return packed(token, here.keys(kvHead), PageFormat::packedKeyIndex(slot, channel),
                    here.keyScales(kvHead), channel, here.headDim);
    }
    return element(token, PageFormat::keyIndex(slot, channel), here.keys(kvHead), here.keyScales(kvHead));
  }
  double value(int kvHead, std::int64_t token, int channel) const {
    const PageFormat here = formatOf(token);
    const auto slot = static_cast<int>(token % kPageTokens);
    if (isPacked(here.precision)) {
      return packed(token, here.values(kvHead), PageFormat::packedValueIndex(slot, channel),
                    here.valueScales(kvHead), slot, kPageTokens);
    }
    return element(token, here.valueIndex(slot, channel), here.values(kvHead), here.valueScales(kvHead));
  }
  // Steps of a packed page, which bound its errors.
  double keyStep(int kvHead, std::int64_t token, int channel) const {
    return toFloat(read<bf16>(token, formatOf(token).keyScales(kvHead) + 2 * channel));
  }
  double keyMiddle(int kvHead, std::int64_t token, int channel) const {
    const PageFormat here = formatOf(token);
    return toFloat(read<bf16>(token, here.keyScales(kvHead) + 2 * (here.headDim + channel)));
  }
  double valueStep(int kvHead, std::int64_t token) const {
    return toFloat(read<bf16>(token, formatOf(token).valueScales(kvHead) + 2 * (token % kPageTokens)));
  }
  // Of its elements; of a far page those of its int4 page.
  PageFormat formatOf(std::int64_t token) const { return content(token).format; }

  PageFormat format;
  std::vector<float> memory;
  std::vector<std::byte*> table;
  std::vector<PrecisionClass> classes;  // by page
  std::deque<std::vector<float>> converted;

 private:
  template <class T>
  T read(std::int64_t token, std::size_t offset) const {
    T value;
    std::memcpy(&value, content(token).data + offset, sizeof value);
    return value;
  }
  PageContent content(std::int64_t token) const {
    const std::int64_t page = token / kPageTokens;
    return contentOf(table[page], format.in(classes[page]));
  }
  double element(std::int64_t token, std::size_t index, std::size_t offset, std::size_t scales) const {
    if (formatOf(token).precision == PrecisionClass::bf16) {
      return toFloat(read<bf16>(token, offset + 2 * index));
    }
    const float scale = read<float>(token, scales + token % kPageTokens * sizeof(float));
    return static_cast<double>(read<std::int8_t>(token, offset + index)) * scale;
  }
  double packed(std::int64_t token, std::size_t offset, std::size_t index, std::size_t scales, int group,
                int groups) const {
    const PageFormat here = formatOf(token);
    const auto [word, shift] = here.placeOf(index);
    const int levels = 1 << bitsOf(here.precision);
    const int code = read<std::uint16_t>(token, offset + 2 * word) >> shift & (levels - 1);
    const double step = toFloat(read<bf16>(token, scales + 2 * group));
    const double middle = toFloat(read<bf16>(token, scales + 2 * (groups + group)));
    return middle + step * (code - (levels - 1) / 2.0);
  }
};

// One sequence: its projections (given) and what came out of attention so far.
struct Sequence {
  Sequence(AttentionShape shape, std::int64_t tokens, unsigned seed,
           PrecisionClass precision = PrecisionClass::bf16)
      : shape(shape),
        tokens(tokens),
        cols(std::int64_t{shape.heads + 2 * shape.kvHeads} * shape.headDim),
        qkv(tokens * cols),
        rotated(qkv.size()),
        out(tokens * shape.heads * shape.headDim, NAN),
        pages({precision, shape.kvHeads, shape.headDim}, tokens) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& x : qkv) x = normal(random);
  }

  AttentionShape shape;
  std::int64_t tokens;
  std::int64_t cols;
  std::vector<float> qkv;      // [tokens, cols] before RoPE
  std::vector<float> rotated;  // as appendKv left it
  std::vector<float> out;      // [tokens, heads * headDim]
  Pages pages;
  std::int64_t done = 0;
  Isa isa = Isa::portable;  // that attended last
};

// The lane of a test: a team and its scratch memory.
struct AttentionLane {
  explicit AttentionLane(Isa isa, int threads = 1) : isa(isa), team(threads) { team.pin(coresFor(threads)); }

  struct Part {
    Sequence* sequence;
    std::int64_t count;
  };

  // One step: the next `count` tokens of each sequence, together.
  void step(const std::vector<Part>& parts) { run(parts, true); }

  // The keys and values of the next `count` tokens alone, for those behind them to attend to.
  void append(Sequence& sequence, std::int64_t count) { run({{&sequence, count}}, false); }

  void all(Sequence& sequence, std::int64_t chunk) {
    while (sequence.done < sequence.tokens) {
      step({{&sequence, std::min(chunk, sequence.tokens - sequence.done)}});
    }
  }

  Isa isa;
  ThreadTeam team;
  cpu::AttentionWorkspace workspace;
  cpu::RopeAngles angles;

 private:
  void run(const std::vector<Part>& parts, bool attends) {
    const AttentionShape& shape = parts[0].sequence->shape;
    const std::int64_t cols = parts[0].sequence->cols, outCols = std::int64_t{shape.heads} * shape.headDim;
    std::vector<EntryRows> entries;
    std::vector<KvView> views;
    std::vector<float> qkv;
    for (const auto& [sequence, count] : parts) {
      entries.push_back({static_cast<std::int64_t>(qkv.size()) / cols, count, sequence->done});
      views.push_back(sequence->pages.view());
      qkv.insert(qkv.end(), sequence->qkv.begin() + sequence->done * cols,
                 sequence->qkv.begin() + (sequence->done + count) * cols);
    }
    const auto rows = static_cast<std::int64_t>(qkv.size()) / cols;
    std::vector<float> out(rows * outCols, NAN);
    const Tensor x{qkv.data(), rows, cols};
    cpu::appendKv(team, angles, x, entries, views, shape, plainRope(shape.headDim), {}, {}, 0);
    if (attends) cpu::attention(isa, team, workspace, x, entries, views, shape, {out.data(), rows, outCols});
    for (std::size_t i = 0; i < parts.size(); ++i) {
      Sequence& sequence = *parts[i].sequence;
      std::copy_n(qkv.begin() + entries[i].row * cols, parts[i].count * cols,
                  sequence.rotated.begin() + sequence.done * cols);
      std::copy_n(out.begin() + entries[i].row * outCols, parts[i].count * outCols,
                  sequence.out.begin() + sequence.done * outCols);
      sequence.done += parts[i].count;
      if (attends) sequence.isa = isa;
    }
  }
};

// What the pages of a sequence hold, as float64. A reference looks at each element for many rows and heads,
// and to find it in a packed page takes ten times what is done with it.
class KvValues {
 public:
  explicit KvValues(const Sequence& sequence)
      : headDim_(sequence.shape.headDim),
        tokens_(static_cast<std::int64_t>(sequence.pages.table.size()) * kPageTokens),
        keys_(sequence.shape.kvHeads * tokens_ * headDim_),
        values_(keys_.size()) {
    const Pages& pages = sequence.pages;
    for (std::int64_t token = 0; token < tokens_; ++token) {
      if (!pages.table[token / kPageTokens]) continue;
      for (int kvHead = 0; kvHead < sequence.shape.kvHeads; ++kvHead) {
        for (int c = 0; c < headDim_; ++c) {
          keys_[at(kvHead, token) + c] = pages.key(kvHead, token, c);
          values_[at(kvHead, token) + c] = pages.value(kvHead, token, c);
        }
      }
    }
  }

  const double* key(int kvHead, std::int64_t token) const { return keys_.data() + at(kvHead, token); }
  const double* value(int kvHead, std::int64_t token) const { return values_.data() + at(kvHead, token); }

 private:
  std::size_t at(int kvHead, std::int64_t token) const { return (kvHead * tokens_ + token) * headDim_; }

  int headDim_;
  std::int64_t tokens_;
  std::vector<double> keys_, values_;  // [kvHeads, tokens, headDim]
};

// Attention of one row and head in float64 over the values that lie in the pages, and by how much a result
// may differ because probabilities are rounded to bf16: half a unit in the 8th place of each; and because
// queries are, after a packed page's key steps were multiplied into them: four standard deviations of the
// sum of such roundings. Where those become bytes, the largest is 127.
struct Expected {
  std::vector<double> out, tolerance;
  std::vector<double> parts;  // of the attention, by page
};

// Whether an instruction set multiplies packed pages' codes with bytes, or writes them down as bf16.
inline bool multipliesInBytes(Isa isa) {
  return cpu::attentionKernels(isa).attendCodes[static_cast<int>(PrecisionClass::int4)] != nullptr;
}

inline Expected reference(const Sequence& sequence, const KvValues& values, std::int64_t row, int head) {
  const AttentionShape& shape = sequence.shape;
  const Pages& pages = sequence.pages;
  const int d = shape.headDim, kvHead = head / (shape.heads / shape.kvHeads);
  const std::int64_t first = shape.window > 0 ? std::max<std::int64_t>(0, row - shape.window + 1) : 0;
  const bool inBytes = multipliesInBytes(sequence.isa);
  std::vector<double> query(d);
  for (int c = 0; c < d; ++c) {
    query[c] = toFloat(toBf16(sequence.rotated[row * sequence.cols + std::int64_t{head} * d + c]));
  }
  std::vector<double> weights, doubts;
  std::vector<std::int64_t> tokens;
  double highest = -INFINITY, total = 0;
  for (std::int64_t token = first; token <= row; ++token) {
    const PrecisionClass precision = pages.formatOf(token).precision;
    if (precision == PrecisionClass::none) continue;
    tokens.push_back(token);
    double score = 0, squares = 0, largest = 0;
    const double* key = values.key(kvHead, token);
    for (int c = 0; c < d; ++c) score += query[c] * key[c];
    for (int c = 0; c < d && isPacked(precision); ++c) {
      const double most = query[c] * pages.keyStep(kvHead, token, c) * ((1 << bitsOf(precision)) - 1) / 2;
      squares += most * most;
      largest = std::max(largest, std::abs(most));
    }
    weights.push_back(score / std::sqrt(static_cast<double>(d)));
    const double rounding = inBytes ? largest / 127 / 2 : 0x1p-9 * std::sqrt(squares / d);
    doubts.push_back(4 / std::sqrt(3.0) * rounding);
    highest = std::max(highest, weights.back());
  }
  for (double& weight : weights) total += weight = std::exp(weight - highest);
  Expected expected{std::vector<double>(d), std::vector<double>(d), std::vector<double>(pages.table.size())};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    expected.parts[tokens[i] / kPageTokens] += weights[i] / total;
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double* value = values.value(kvHead, tokens[i]);
    for (int c = 0; c < d; ++c) expected.out[c] += weights[i] / total * value[c];
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double* value = values.value(kvHead, tokens[i]);
    for (int c = 0; c < d; ++c) {
      const double rounding = std::abs(value[c]) * 0x1p-8 + std::abs(value[c] - expected.out[c]) * doubts[i];
      expected.tolerance[c] += weights[i] / total * rounding;
    }
  }
  return expected;
}

}  // namespace tandem::test
