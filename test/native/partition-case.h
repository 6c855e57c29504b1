#pragma once

// Sequences in partitions, filled by the CPU, and what their rows see and attend to in float64.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "attention-case.h"
#include "cpu/attention/partitions.h"

namespace tandem::test {

// A sequence of which pages behind the sink may be dropped, and rows behind them that see a selection.
struct Session {
  Session(AttentionShape shape, std::int64_t tokens, unsigned seed, PageSelection selection,
          PrecisionClass pool = PrecisionClass::bf16)
      : sequence(shape, tokens, seed, pool), partitions{selection} {
    partitions.midEnd = selection.sinkPages;
  }

  std::int64_t dropped() const { return partitions.droppedPages * kPageTokens; }

  // The next `count` tokens, in one step.
  void step(AttentionLane& lane, std::int64_t count) {
    append(lane, count);
    attend(lane, sequence.done - count, count);
  }

  // Their keys and values alone.
  void append(AttentionLane& lane, std::int64_t count) {
    const EntryRows entry{0, count, sequence.done - dropped(), dropped()};
    const KvView view = sequence.pages.view();
    const std::int64_t begin = sequence.done * sequence.cols, size = count * sequence.cols;
    std::copy_n(sequence.qkv.begin() + begin, size, sequence.rotated.begin() + begin);
    cpu::appendKv(lane.team, lane.angles, {sequence.rotated.data() + begin, count, sequence.cols},
                  {&entry, 1}, {&view, 1}, sequence.shape, plainRope(sequence.shape.headDim), {}, {}, 0);
    sequence.done += count;
  }

  // Rows that were appended since what was moved last.
  void attend(AttentionLane& lane, std::int64_t first, std::int64_t count) {
    const AttentionShape& shape = sequence.shape;
    const std::int64_t outCols = std::int64_t{shape.heads} * shape.headDim;
    const EntryRows entry{0, count, first - dropped(), dropped()};
    const KvView view = sequence.pages.view();
    const Tensor x{sequence.rotated.data() + first * sequence.cols, count, sequence.cols},
        y{sequence.out.data() + first * outCols, count, outCols};
    if (partitions.absentPages() > 0 || always) {
      cpu::attendPartitions(lane.isa, lane.team, lane.workspace, x, {&entry, 1}, {&view, 1}, {&partitions, 1},
                            shape, plainRope(shape.headDim), y);
    } else {
      cpu::attention(lane.isa, lane.team, lane.workspace, x, {&entry, 1}, {&view, 1}, shape, y);
    }
  }

  void all(AttentionLane& lane, std::int64_t chunk) {
    while (sequence.done < sequence.tokens) step(lane, std::min(chunk, sequence.tokens - sequence.done));
  }

  // Packs pages of the table up to `end`, and drops the oldest `drop` of mid.
  void move(Isa isa, std::int64_t end, std::int64_t drop, PrecisionClass precision = PrecisionClass::int4) {
    for (std::int64_t page = partitions.midEnd; page < end; ++page) {
      sequence.pages.convert(isa, page, precision);
    }
    const std::int64_t sink = partitions.selection.sinkPages;
    const auto cut = [&](auto& column) {
      column.erase(column.begin() + sink, column.begin() + sink + drop);
      column.resize(column.size() + drop);
    };
    cut(sequence.pages.table);
    cut(sequence.pages.classes);
    partitions.midEnd = end - drop;
    partitions.droppedPages += drop;
  }

  Sequence sequence;
  PagePartitions partitions;
  bool always = false;
};

// A head's query, turned back by `pages`, in float64.
inline std::vector<double> turned(const Session& session, std::int64_t row, int head, std::int64_t pages) {
  const int d = session.sequence.shape.headDim;
  const float* q = session.sequence.rotated.data() + row * session.sequence.cols + std::int64_t{head} * d;
  const RopeTable rope = plainRope(d);
  std::vector<double> out(d);
  for (int i = 0; i < d / 2; ++i) {
    const double angle = -static_cast<double>(pages * kPageTokens) * rope.inverseFrequencies[i];
    out[i] = q[i] * std::cos(angle) - q[i + d / 2] * std::sin(angle);
    out[i + d / 2] = q[i + d / 2] * std::cos(angle) + q[i] * std::sin(angle);
  }
  return out;
}

// The `count` best of the pages, by what they promise. `isClear`: no rounding would make others of them.
inline std::vector<std::int64_t> bestOf(std::vector<std::pair<double, std::int64_t>> promises,
                                        std::int64_t count, double doubt, bool& isClear) {
  std::sort(promises.begin(), promises.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (count < static_cast<std::int64_t>(promises.size())) {
    if (promises[count - 1].first - promises[count].first < doubt) isClear = false;
    promises.resize(count);
  }
  std::vector<std::int64_t> pages;
  for (const auto& [promise, page] : promises) pages.push_back(page);
  std::sort(pages.begin(), pages.end());
  return pages;
}

// The mid pages that a row sees, from the definition.
inline std::vector<std::int64_t> selection(const Session& session, const KvValues& values, std::int64_t row,
                                           int kvHead, bool& isClear) {
  constexpr std::int64_t kShortlistFactor = 4;
  const auto& [chosen, dropped, midEnd] = session.partitions;
  const Pages& pages = session.sequence.pages;
  const AttentionShape& shape = session.sequence.shape;
  const int group = shape.heads / shape.kvHeads;
  const auto best = [&, midEnd = midEnd](const std::vector<std::int64_t>& among, std::int64_t count,
                                         double doubt, const auto& promiseOf) {
    std::vector<std::pair<double, std::int64_t>> promises;
    for (const std::int64_t page : among) {
      double highest = -INFINITY;
      for (int head = kvHead * group; head < (kvHead + 1) * group; ++head) {
        highest = std::max(highest, promiseOf(turned(session, row, head, midEnd - 1 - page), page));
      }
      promises.emplace_back(highest, page);
    }
    return bestOf(std::move(promises), count, doubt, isClear);
  };
  std::vector<std::int64_t> older(std::max<std::int64_t>(0, midEnd - chosen.scoredPages - chosen.sinkPages));
  std::iota(older.begin(), older.end(), chosen.sinkPages);
  const auto bound = [&](const std::vector<double>& q, std::int64_t page) {
    double sum = 0;
    for (int c = 0; c < shape.headDim; ++c) {
      // The ends of the channel's range, which the first and the last code stand for.
      const double middle = pages.keyMiddle(kvHead, page * kPageTokens, c);
      const int steps = (1 << bitsOf(pages.formatOf(page * kPageTokens).precision)) - 1;
      const double reach = pages.keyStep(kvHead, page * kPageTokens, c) * steps / 2;
      sum += std::max(q[c] * (middle - reach / 2), q[c] * (middle + reach / 2));
    }
    return sum;
  };
  const auto score = [&](const std::vector<double>& q, std::int64_t page) {
    double highest = -INFINITY;
    for (std::int64_t token = page * kPageTokens; token < (page + 1) * kPageTokens; ++token) {
      double sum = 0;
      const double* key = values.key(kvHead, token);
      for (int c = 0; c < shape.headDim; ++c) sum += q[c] * key[c];
      highest = std::max(highest, sum);
    }
    return highest;
  };
  const double perScore = 0.02 * std::sqrt(shape.headDim);  // queries are rounded where keys are scored
  const std::int64_t newer = chosen.sinkPages + static_cast<std::int64_t>(older.size());
  std::vector<std::int64_t> among = best(older, chosen.topPages * kShortlistFactor, 1e-4, bound);
  for (std::int64_t page = newer; page < midEnd; ++page) among.push_back(page);
  return best(among, chosen.topPages, perScore, score);
}

// Attention of a row and head in float64 over the values in the pages that it sees, closed up.
inline Expected expectedOf(const Session& session, const KvValues& values, std::int64_t row, int head,
                           bool& isClear) {
  const auto& [chosen, dropped, midEnd] = session.partitions;
  const Sequence& sequence = session.sequence;
  const AttentionShape& shape = sequence.shape;
  const int d = shape.headDim, kvHead = head / (shape.heads / shape.kvHeads);
  const std::int64_t place = row - session.dropped();
  const std::vector<std::int64_t> selected = selection(session, values, row, kvHead, isClear);
  std::vector<std::int64_t> seen(chosen.sinkPages);
  std::iota(seen.begin(), seen.end(), 0);
  seen.insert(seen.end(), selected.begin(), selected.end());
  for (std::int64_t page = midEnd; page <= place / kPageTokens; ++page) seen.push_back(page);
  const std::int64_t last = place / kPageTokens;
  struct Term {
    std::int64_t token;
    double weight, doubt;
  };
  std::vector<Term> terms;
  double highest = -INFINITY, total = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    // Pages between this one and the row's own that the row does not see.
    std::int64_t absent = (last - seen[i]) - static_cast<std::int64_t>(seen.size() - 1 - i);
    if (seen[i] < chosen.sinkPages) absent += dropped;
    std::vector<double> q = turned(session, row, head, absent);
    for (double& x : q) x = toFloat(toBf16(static_cast<float>(x)));
    for (int t = 0; t < kPageTokens && seen[i] * kPageTokens + t <= place; ++t) {
      const std::int64_t token = seen[i] * kPageTokens + t;
      double score = 0, squares = 0;
      const double* key = values.key(kvHead, token);
      for (int c = 0; c < d; ++c) {
        const double product = q[c] * key[c];
        score += product;
        squares += product * product;
      }
      terms.push_back({token, score / std::sqrt(double{1} * d), 6 * 0x1p-9 * std::sqrt(squares / d)});
      highest = std::max(highest, terms.back().weight);
    }
  }
  Expected expected{std::vector<double>(d), std::vector<double>(d), {}};
  for (Term& term : terms) total += term.weight = std::exp(term.weight - highest);
  for (const Term& term : terms) {
    const double* value = values.value(kvHead, term.token);
    for (int c = 0; c < d; ++c) expected.out[c] += term.weight / total * value[c];
  }
  for (const Term& term : terms) {
    const double* value = values.value(kvHead, term.token);
    for (int c = 0; c < d; ++c) {
      const double rounding = std::abs(value[c]) * 0x1p-8 + std::abs(value[c] - expected.out[c]) * term.doubt;
      expected.tolerance[c] += term.weight / total * rounding;
    }
  }
  return expected;
}

}  // namespace tandem::test
