#include "cpu/append-kv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/bf16.h"
#include "core/error.h"
#include "cpu/rms-norm.h"

namespace tandem::cpu {
namespace {

struct Problem {
  Tensor qkv;
  std::span<const EntryRows> entries;
  std::span<const KvView> views;
  AttentionShape shape;
  std::span<const float> qGain;
  std::span<const float> kGain;
  float eps;

  std::span<float> head(std::int64_t row, int head) const {
    return {qkv.floats() + row * qkv.cols + std::int64_t{head} * shape.headDim,
            static_cast<std::size_t>(shape.headDim)};
  }
};

// Rows of one entry that fall into one page. Pages start a piece, so that one thread writes all of a head
// block.
struct Piece {
  std::size_t entry;
  std::int64_t first;  // row in the entry
  int count;
};

void validate(const Problem& problem, const RopeTable& rope) {
  const AttentionShape& shape = problem.shape;
  check(shape.headDim > 0 && shape.headDim % 16 == 0 && shape.headDim <= kMaxHeadDim,
        "appendKv supports head dimensions that are multiples of 16 up to 256");
  check(shape.heads > 0 && shape.kvHeads > 0, "appendKv: heads and kvHeads must be positive");
  check(problem.entries.size() == problem.views.size(), "appendKv: one KV view per entry expected");
  check(problem.qkv.cols == std::int64_t{shape.heads + 2 * shape.kvHeads} * shape.headDim,
        "appendKv: the columns of qkv do not fit the heads");
  check(rope.inverseFrequencies.size() == static_cast<std::size_t>(shape.headDim / 2),
        "appendKv: the RoPE table needs headDim / 2 frequencies");
  for (const auto gain : {problem.qGain, problem.kGain}) {
    check(gain.empty() || gain.size() == static_cast<std::size_t>(shape.headDim),
          "appendKv: a norm's gain needs headDim values");
  }
  for (std::size_t i = 0; i < problem.entries.size(); ++i) {
    const EntryRows& entry = problem.entries[i];
    const KvView& view = problem.views[i];
    check(entry.row >= 0 && entry.count >= 0 && entry.position >= 0 &&
              entry.row + entry.count <= problem.qkv.rows,
          "appendKv: an entry's rows lie outside the activations");
    check(view.format.kvHeads == shape.kvHeads && view.format.headDim == shape.headDim,
          "appendKv: the page format does not fit the heads");
    check(static_cast<std::int64_t>(view.pages.size()) * kPageTokens >= entry.position + entry.count,
          "appendKv: an entry's page table is shorter than its tokens");
    check(view.classes.empty() || view.classes.size() >= view.pages.size(),
          "appendKv: a page table has pages without a class");
    for (std::int64_t page = entry.position / kPageTokens;
         entry.count > 0 && page <= (entry.position + entry.count - 1) / kPageTokens; ++page) {
      check(!isPacked(view.formatOf(page).precision), "appendKv: a packed page cannot take more tokens");
    }
  }
}

std::vector<Piece> piecesOf(std::span<const EntryRows> entries) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    for (std::int64_t row = 0; row < entries[i].count;) {
      const auto inPage = static_cast<int>((entries[i].position + row) % kPageTokens);
      const auto count =
          static_cast<int>(std::min<std::int64_t>(kPageTokens - inPage, entries[i].count - row));
      pieces.push_back({i, row, count});
      row += count;
    }
  }
  return pieces;
}

void writeBf16(std::span<const float> k, std::span<const float> v, const PageFormat& format, int token,
               bf16* keys, bf16* values) {
  for (int channel = 0; channel < format.headDim; channel += 2) {
    bf16* pair = keys + PageFormat::keyIndex(token, channel);
    pair[0] = toBf16(k[channel]);
    pair[1] = toBf16(k[channel + 1]);
  }
  bf16* row = values + format.valueIndex(token, 0);
  for (int channel = 0; channel < format.headDim; ++channel) row[2 * channel] = toBf16(v[channel]);
}

// The step of a symmetric quantization of `x` to -127..127.
float scaleOf(std::span<const float> x) {
  float largest = 0;
  for (const float value : x) largest = std::max(largest, std::abs(value));
  return largest / 127;
}

std::int8_t codeOf(float value, float inverseScale) {
  // A NaN has no integer: it becomes 0 here and shows up in the token's own attention output.
  const float code = std::nearbyint(value * inverseScale);
  return code >= -127 && code <= 127 ? static_cast<std::int8_t>(code) : std::int8_t{0};
}

void writeInt8(std::span<const float> k, std::span<const float> v, const PageFormat& format, int token,
               std::int8_t* keys, std::int8_t* values, float* keyScales, float* valueScales) {
  const float keyScale = scaleOf(k), valueScale = scaleOf(v);
  keyScales[token] = keyScale;
  valueScales[token] = valueScale;
  const float keyInverse = keyScale > 0 ? 1 / keyScale : 0,
              valueInverse = valueScale > 0 ? 1 / valueScale : 0;
  for (int channel = 0; channel < format.headDim; ++channel) {
    keys[PageFormat::keyIndex(token, channel)] = codeOf(k[channel], keyInverse);
    values[format.valueIndex(token, channel)] = codeOf(v[channel], valueInverse);
  }
}

void rotateQueries(const Problem& problem, const RopeAngles& angles, const Piece& piece, int head) {
  for (int i = 0; i < piece.count; ++i) {
    const std::int64_t index = piece.first + i;
    const std::span<float> q = problem.head(problem.entries[piece.entry].row + index, head);
    if (!problem.qGain.empty()) rmsNormRow(q, problem.qGain, problem.eps, q.data());
    rotateHead(q, angles.cosines(piece.entry, index), angles.sines(piece.entry, index));
  }
}

void appendHead(const Problem& problem, const RopeAngles& angles, const Piece& piece, int kvHead) {
  const AttentionShape& shape = problem.shape;
  const KvView& view = problem.views[piece.entry];
  const std::int64_t position = problem.entries[piece.entry].position + piece.first;
  const PageFormat format = view.formatOf(position / kPageTokens);
  std::byte* page = view.pages[position / kPageTokens];
  if (position % kPageTokens == 0) std::memset(page + format.keys(kvHead), 0, format.headBytes());
  for (int i = 0; i < piece.count; ++i) {
    const std::int64_t index = piece.first + i, row = problem.entries[piece.entry].row + index;
    const std::span<float> k = problem.head(row, shape.heads + kvHead);
    const std::span<const float> v = problem.head(row, shape.heads + shape.kvHeads + kvHead);
    if (!problem.kGain.empty()) rmsNormRow(k, problem.kGain, problem.eps, k.data());
    rotateHead(k, angles.cosines(piece.entry, index), angles.sines(piece.entry, index));
    const auto token = static_cast<int>((position + i) % kPageTokens);
    if (format.precision == PrecisionClass::bf16) {
      writeBf16(k, v, format, token, reinterpret_cast<bf16*>(page + format.keys(kvHead)),
                reinterpret_cast<bf16*>(page + format.values(kvHead)));
    } else {
      writeInt8(k, v, format, token, reinterpret_cast<std::int8_t*>(page + format.keys(kvHead)),
                reinterpret_cast<std::int8_t*>(page + format.values(kvHead)),
                reinterpret_cast<float*>(page + format.keyScales(kvHead)),
                reinterpret_cast<float*>(page + format.valueScales(kvHead)));
    }
  }
}

}  // namespace

void appendKv(ThreadTeam& team, RopeAngles& angles, Tensor qkv, std::span<const EntryRows> entries,
              std::span<const KvView> views, const AttentionShape& shape, const RopeTable& rope,
              std::span<const float> qGain, std::span<const float> kGain, float eps) {
  const Problem problem{qkv, entries, views, shape, qGain, kGain, eps};
  validate(problem, rope);
  angles.prepare(team, entries, rope);
  const std::vector<Piece> pieces = piecesOf(entries);
  const std::int64_t heads = shape.heads + shape.kvHeads;
  team.split(static_cast<std::int64_t>(pieces.size()) * heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const Piece& piece = pieces[item / heads];
      const auto head = static_cast<int>(item % heads);
      if (head < shape.heads) {
        rotateQueries(problem, angles, piece, head);
      } else {
        appendHead(problem, angles, piece, head - shape.heads);
      }
    }
  });
}

}  // namespace tandem::cpu
