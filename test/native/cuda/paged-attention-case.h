#pragma once

// Sequences whose pages the CPU has filled, on the device, where decode and prefill attend to them.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "attention-case.h"
#include "check.h"
#include "cpu/attention/probe.h"
#include "cpu/isa.h"
#include "cuda/decode-attention.h"
#include "cuda/prefill-attention.h"
#include "cuda/probe.h"
#include "page-pool.h"
#include "random.h"

namespace tandem::test {

inline constexpr PrecisionClass kBf16 = PrecisionClass::bf16, kInt8 = PrecisionClass::int8,
                                kInt4 = PrecisionClass::int4, kInt2 = PrecisionClass::int2;

using PrefillKernel = void(const cuda::PrefillAttention&, cuda::Stream);

// Tokens [position, position + count) of a sequence.
struct Chunk {
  int sequence;
  std::int64_t position;
  std::int64_t count = 1;
};

// Bit for bit.
inline void expectSame(const std::vector<bf16>& actual, const std::vector<bf16>& expected,
                       const std::string& what) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (actual[i] == expected[i]) continue;
    fail(what + ", element " + std::to_string(i) + ": " + std::to_string(toFloat(actual[i])) + " (" +
         std::to_string(actual[i]) + ") and not " + std::to_string(toFloat(expected[i])) + " (" +
         std::to_string(expected[i]) + ")");
  }
}

class PagedAttentionCase {
 public:
  // The classes of a sequence's full pages in turn, `none` for those that were given up; the first is the
  // pool's and that of a page not yet full.
  PagedAttentionCase(const AttentionShape& shape, const std::vector<PrecisionClass>& classes,
                     const std::vector<std::int64_t>& tokens)
      : shape_(shape), pages_({classes[0], shape.kvHeads, shape.headDim}, tokens) {
    ThreadTeam team(1);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      Sequence& sequence =
          sequences_.emplace_back(shape, tokens[i], 40 + static_cast<unsigned>(tokens[i]), classes[0]);
      cpu::RopeAngles angles;
      const EntryRows entry{0, sequence.tokens, 0};
      const KvView view = sequence.pages.view();
      sequence.rotated = sequence.qkv;
      cpu::appendKv(team, angles, {sequence.rotated.data(), sequence.tokens, sequence.cols}, {&entry, 1},
                    {&view, 1}, shape, plainRope(shape.headDim), {}, {}, 0);
      for (float& value : sequence.rotated) value = toFloat(toBf16(value));
      for (std::int64_t page = 0; page < static_cast<std::int64_t>(sequence.pages.table.size()); ++page) {
        const PrecisionClass precision = classes[page % classes.size()];
        const bool full = (page + 1) * kPageTokens <= sequence.tokens;
        if (full && precision == PrecisionClass::none) {
          sequence.pages.giveUp(page);
          pages_.setClass(static_cast<int>(i), page, precision);
          continue;
        }
        if (full && precision != classes[0]) sequence.pages.convert(Isa::portable, page, precision);
        const PageFormat format = sequence.pages.formatOf(page * kPageTokens);
        std::memcpy(pages_.page(static_cast<int>(i), page), sequence.pages.table[page], format.pageBytes());
        pages_.setClass(static_cast<int>(i), page, format.precision);
      }
    }
  }

  const AttentionShape& shape() const { return shape_; }
  const Sequence& sequence(int index) const { return sequences_[index]; }
  // Scores lie so many times as far apart.
  void spreadScores(float by) {
    for (Sequence& sequence : sequences_) {
      for (std::int64_t token = 0; token < sequence.tokens; ++token) {
        float* queries = sequence.rotated.data() + token * sequence.cols;
        for (int i = 0; i < shape_.heads * shape_.headDim; ++i) queries[i] = toFloat(toBf16(queries[i] * by));
      }
    }
  }
  // The query of a token becomes NaN.
  void spoilQuery(int index, std::int64_t position) {
    sequences_[index].rotated[position * sequences_[index].cols] = NAN;
  }
  std::size_t outWidth() const { return static_cast<std::size_t>(shape_.heads) * shape_.headDim; }

  // Rows of out, one for each token of the chunks, in their order. The activations have rows of nobody, and
  // the chunks lie in them from the last to the first.
  std::vector<std::vector<bf16>> decode(const std::vector<Chunk>& tokens) {
    const Activations rows(*this, tokens);
    std::vector<std::int32_t> contexts;
    for (const Chunk& token : tokens) contexts.push_back(static_cast<std::int32_t>(token.position + 1));
    const int count = static_cast<int>(tokens.size());
    const int most = *std::max_element(contexts.begin(), contexts.end());
    DeviceArray<bf16> qkv(rows.qkv), out(rows.out);
    DeviceArray<std::int32_t> places(rows.first), lengths(contexts);
    DeviceArray<float> parts(std::vector<float>(
        cuda::decodeAttentionScratch(count, most, shape_.heads, shape_.headDim) / sizeof(float), NAN));
    const cuda::PageTables tables = tablesOf(tokens);
    cuda::decodeAttention({qkv.data(), tables, places.data(), lengths.data(), count, most, shape_.heads,
                           shape_.window, parts.data(), out.data()},
                          kStream);
    return rows.read(out);
  }

  std::vector<std::vector<bf16>> prefill(const std::vector<Chunk>& chunks,
                                         PrefillKernel* kernel = cuda::prefillAttention) {
    const Activations rows(*this, chunks);
    const int most = cuda::prefillTileTokens(shape_.heads, shape_.kvHeads);
    std::vector<cuda::QueryTile> tiles;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      for (std::int64_t at = 0; at < chunks[i].count; at += most) {
        tiles.push_back({rows.first[i] + static_cast<std::int32_t>(at),
                         static_cast<std::int32_t>(std::min<std::int64_t>(most, chunks[i].count - at)),
                         static_cast<std::int32_t>(i), static_cast<std::int32_t>(chunks[i].position + at)});
      }
    }
    DeviceArray<bf16> qkv(rows.qkv), out(rows.out);
    DeviceArray<cuda::QueryTile> all(tiles);
    kernel({qkv.data(), tablesOf(chunks), all.data(), static_cast<int>(tiles.size()), shape_.heads,
            shape_.window, out.data()},
           kStream);
    return rows.read(out);
  }

  // Where the rows of each chunk look, page by page, looked at together in tiles of so many rows.
  std::vector<std::vector<std::uint32_t>> probe(const std::vector<Chunk>& chunks, int tileRows) {
    const Activations rows(*this, chunks);
    std::vector<cuda::ProbeTile> tiles;
    std::vector<std::size_t> begins{0};
    int most = 1, mostTokens = 1;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      for (std::int64_t at = 0; at < chunks[i].count; at += tileRows) {
        const auto count = static_cast<int>(std::min<std::int64_t>(tileRows, chunks[i].count - at));
        most = std::max(most, count);
        tiles.push_back({rows.first[i] + static_cast<std::int32_t>(at), count, static_cast<std::int32_t>(i),
                         static_cast<std::int32_t>(chunks[i].position + at),
                         static_cast<std::int32_t>(begins[i])});
      }
      const std::int64_t end = chunks[i].position + chunks[i].count;
      mostTokens = std::max(mostTokens, static_cast<int>(end));
      begins.push_back(begins[i] + static_cast<std::size_t>((end + kPageTokens - 1) / kPageTokens));
    }
    DeviceArray<bf16> qkv(rows.qkv);
    DeviceArray<cuda::ProbeTile> all(tiles);
    DeviceArray<std::uint32_t> sums(std::vector<std::uint32_t>(begins.back(), 0));
    const int count = static_cast<int>(tiles.size());
    DeviceArray<float> parts(std::vector<float>(
        cuda::probeScratch(count, most, mostTokens, shape_.heads, shape_.kvHeads) / sizeof(float), NAN));
    cuda::probe({qkv.data(), tablesOf(chunks), all.data(), count, most, mostTokens, shape_.heads,
                 shape_.window, parts.data(), sums.data()},
                kStream);
    const std::vector<std::uint32_t> found = sums.read();
    std::vector<std::vector<std::uint32_t>> ofChunks;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      ofChunks.emplace_back(found.begin() + static_cast<std::ptrdiff_t>(begins[i]),
                            found.begin() + static_cast<std::ptrdiff_t>(begins[i + 1]));
    }
    return ofChunks;
  }

  // Where the rows of a chunk look, against float64 and the CPU.
  void expectProbed(const std::vector<std::uint32_t>& sums, const Chunk& chunk,
                    const std::string& what) const {
    const Sequence& sequence = sequences_[chunk.sequence];
    std::vector<double> parts(sums.size());
    const KvValues values(sequence);
    for (std::int64_t row = chunk.position; row < chunk.position + chunk.count; ++row) {
      for (int head = 0; head < shape_.heads; ++head) {
        const Expected expected = reference(sequence, values, row, head);
        for (std::size_t page = 0; page < parts.size(); ++page) {
          parts[page] += expected.parts[page] / shape_.heads;
        }
      }
    }
    std::vector<float> qkv(sequence.rotated.begin() + chunk.position * sequence.cols,
                           sequence.rotated.begin() + (chunk.position + chunk.count) * sequence.cols);
    std::vector<std::uint32_t> twin(sums.size());
    const EntryRows entry{0, chunk.count, chunk.position};
    const KvView view = sequence.pages.view();
    const std::span<std::uint32_t> ofTwin(twin);
    ThreadTeam team(1);
    cpu::AttentionWorkspace workspace;
    cpu::probe(Isa::portable, team, workspace, {qkv.data(), chunk.count, sequence.cols}, {&entry, 1},
               {&view, 1}, shape_, {&ofTwin, 1});
    double total = 0;
    for (std::size_t page = 0; page < sums.size(); ++page) {
      const std::string where = what + ", page " + std::to_string(page);
      const double part = static_cast<double>(sums[page]) / kSaliencyUnits;
      total += part;
      near(part, parts[page], 0.02 * parts[page] + 2e-4, where);
      near(part, static_cast<double>(twin[page]) / kSaliencyUnits, 0.03 * parts[page] + 3e-4,
           where + ", the CPU's");
      if (sequence.pages.classes[page] == PrecisionClass::none) {
        test::equal(sums[page], 0u, where + ", which was given up");
      }
    }
    near(total, static_cast<double>(chunk.count), 2e-5 * static_cast<double>(chunk.count),
         what + ", all of the rows' attention");
  }

  // A row against float64 and the CPU's attention of it.
  void expectReference(const std::vector<bf16>& out, int index, std::int64_t position,
                       const std::string& what) const {
    const Sequence& sequence = sequences_[index];
    const std::vector<float> twin = twinOf(sequence, position);
    const KvValues values(sequence);
    const std::string where = what + ", " + std::to_string(shape_.heads) + "/" +
                              std::to_string(shape_.kvHeads) + " heads of " + std::to_string(shape_.headDim) +
                              ", window " + std::to_string(shape_.window) + ", position " +
                              std::to_string(position);
    const std::string whereCpu = where + ", the CPU's";
    for (int head = 0; head < shape_.heads; ++head) {
      const Expected expected = reference(sequence, values, position, head);
      for (int c = 0; c < shape_.headDim; ++c) {
        const int at = head * shape_.headDim + c;
        const double got = toFloat(out[at]);
        near(got, expected.out[c], expected.tolerance[c] + bf16Error(expected.out[c]) + 1e-5, where);
        near(got, twin[at], 2 * expected.tolerance[c] + bf16Error(twin[at]) + 2e-5, whereCpu);
      }
    }
  }

 private:
  static constexpr int kUnusedRows = 3;

  struct Activations {
    Activations(const PagedAttentionCase& problem, const std::vector<Chunk>& chunks) : problem(problem) {
      std::int64_t rows = kUnusedRows;
      first.resize(chunks.size());
      for (std::size_t i = chunks.size(); i-- > 0;) {
        first[i] = static_cast<std::int32_t>(rows);
        rows += chunks[i].count;
      }
      const std::int64_t cols = problem.sequences_[0].cols;
      qkv.assign(rows * cols, toBf16(NAN));
      out.assign(rows * problem.outWidth(), toBf16(NAN));
      for (std::size_t i = 0; i < chunks.size(); ++i) {
        const Sequence& sequence = problem.sequences_[chunks[i].sequence];
        std::transform(sequence.rotated.begin() + chunks[i].position * cols,
                       sequence.rotated.begin() + (chunks[i].position + chunks[i].count) * cols,
                       qkv.begin() + first[i] * cols, [](float value) { return toBf16(value); });
        for (std::int64_t row = 0; row < chunks[i].count; ++row) order.push_back(first[i] + row);
      }
    }

    std::vector<std::vector<bf16>> read(const DeviceArray<bf16>& device) const {
      const std::vector<bf16> all = device.read();
      const std::size_t width = problem.outWidth();
      isTrue(std::equal(all.begin(), all.begin() + kUnusedRows * width, out.begin()),
             "rows of nobody keep their bytes");
      std::vector<std::vector<bf16>> rows;
      for (const std::int64_t row : order) {
        rows.emplace_back(all.begin() + row * width, all.begin() + (row + 1) * width);
      }
      return rows;
    }

    const PagedAttentionCase& problem;
    std::vector<bf16> qkv, out;
    std::vector<std::int32_t> first;
    std::vector<std::int64_t> order;
  };

  // A step's tables: a sequence of the step for each chunk.
  cuda::PageTables tablesOf(const std::vector<Chunk>& chunks) {
    std::vector<int> sequences;
    for (const Chunk& chunk : chunks) sequences.push_back(chunk.sequence);
    return pages_.upload(sequences);
  }

  std::vector<float> twinOf(const Sequence& sequence, std::int64_t position) const {
    ThreadTeam team(1);
    cpu::AttentionWorkspace workspace;
    std::vector<float> row(sequence.rotated.begin() + position * sequence.cols,
                           sequence.rotated.begin() + (position + 1) * sequence.cols);
    std::vector<float> out(outWidth());
    const EntryRows entry{0, 1, position};
    const KvView view = sequence.pages.view();
    cpu::attention(Isa::portable, team, workspace, {row.data(), 1, sequence.cols}, {&entry, 1}, {&view, 1},
                   shape_, {out.data(), 1, static_cast<std::int64_t>(out.size())});
    return out;
  }

  AttentionShape shape_;
  DevicePages pages_;
  std::vector<Sequence> sequences_;
};

}  // namespace tandem::test
