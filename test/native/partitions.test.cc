#include "cpu/attention/partitions.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "attention-case.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// A sequence of which pages behind the sink may be dropped, and rows behind them that see a selection.
struct Session {
  Session(AttentionShape shape, std::int64_t tokens, unsigned seed, PageSelection selection)
      : sequence(shape, tokens, seed), partitions{selection} {
    partitions.midEnd = selection.sinkPages;
  }

  std::int64_t dropped() const { return partitions.droppedPages * kPageTokens; }

  // The next `count` tokens, in one step.
  void step(AttentionLane& lane, std::int64_t count) {
    const AttentionShape& shape = sequence.shape;
    const std::int64_t outCols = std::int64_t{shape.heads} * shape.headDim;
    const std::vector<EntryRows> entries{{0, count, sequence.done - dropped(), dropped()}};
    const std::vector<KvView> views{sequence.pages.view()};
    const auto first = sequence.qkv.begin() + sequence.done * sequence.cols;
    std::vector<float> qkv(first, first + count * sequence.cols), out(count * outCols, NAN);
    const Tensor x{qkv.data(), count, sequence.cols}, y{out.data(), count, outCols};
    const RopeTable rope = plainRope(shape.headDim);
    cpu::appendKv(lane.team, lane.angles, x, entries, views, shape, rope, {}, {}, 0);
    if (partitions.absentPages() > 0 || always) {
      cpu::attendPartitions(lane.isa, lane.team, lane.workspace, x, entries, views, {&partitions, 1}, shape,
                            rope, y);
    } else {
      cpu::attention(lane.isa, lane.team, lane.workspace, x, entries, views, shape, y);
    }
    std::ranges::copy(qkv, sequence.rotated.begin() + sequence.done * sequence.cols);
    std::ranges::copy(out, sequence.out.begin() + sequence.done * outCols);
    sequence.done += count;
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
std::vector<double> turned(const Session& session, std::int64_t row, int head, std::int64_t pages) {
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
std::vector<std::int64_t> bestOf(std::vector<std::pair<double, std::int64_t>> promises, std::int64_t count,
                                 double doubt, bool& isClear) {
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
std::vector<std::int64_t> selection(const Session& session, std::int64_t row, int kvHead, bool& isClear) {
  constexpr std::int64_t kShortlistFactor = 4;
  const auto& [chosen, dropped, midEnd] = session.partitions;
  const Pages& pages = session.sequence.pages;
  const AttentionShape& shape = session.sequence.shape;
  const int group = shape.heads / shape.kvHeads;
  const auto best = [&](const std::vector<std::int64_t>& among, std::int64_t count, double doubt,
                        const auto& promiseOf) {
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
  std::vector<std::int64_t> mid(midEnd - chosen.sinkPages);
  std::iota(mid.begin(), mid.end(), chosen.sinkPages);
  const auto bound = [&](const std::vector<double>& q, std::int64_t page) {
    double sum = 0;
    for (int c = 0; c < shape.headDim; ++c) {
      // The ends of the channel's range, which the first and the last code stand for.
      const double middle = pages.keyMiddle(kvHead, page * kPageTokens, c);
      const int steps = (1 << bitsOf(pages.classes[page])) - 1;
      const double reach = pages.keyStep(kvHead, page * kPageTokens, c) * steps / 2;
      sum += std::max(q[c] * (middle - reach / 2), q[c] * (middle + reach / 2));
    }
    return sum;
  };
  const auto score = [&](const std::vector<double>& q, std::int64_t page) {
    double highest = -INFINITY;
    for (std::int64_t token = page * kPageTokens; token < (page + 1) * kPageTokens; ++token) {
      double sum = 0;
      for (int c = 0; c < shape.headDim; ++c) sum += q[c] * pages.key(kvHead, token, c);
      highest = std::max(highest, sum);
    }
    return highest;
  };
  const double perScore = 0.02 * std::sqrt(shape.headDim);  // queries are bf16 where keys are scored
  return best(best(mid, chosen.topPages * kShortlistFactor, 1e-4, bound), chosen.topPages, perScore, score);
}

// Attention of a row and head in float64 over the values in the pages that it sees, closed up.
Expected expectedOf(const Session& session, std::int64_t row, int head, bool& isClear) {
  const auto& [chosen, dropped, midEnd] = session.partitions;
  const Sequence& sequence = session.sequence;
  const AttentionShape& shape = sequence.shape;
  const int d = shape.headDim, kvHead = head / (shape.heads / shape.kvHeads);
  const std::int64_t place = row - session.dropped();
  const std::vector<std::int64_t> selected = selection(session, row, kvHead, isClear);
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
    const std::vector<double> q = turned(session, row, head, absent);
    for (int t = 0; t < kPageTokens && seen[i] * kPageTokens + t <= place; ++t) {
      const std::int64_t token = seen[i] * kPageTokens + t;
      double score = 0, squares = 0;
      for (int c = 0; c < d; ++c) {
        const double x = toFloat(toBf16(static_cast<float>(q[c])));
        const double product = x * sequence.pages.key(kvHead, token, c);
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
    for (int c = 0; c < d; ++c) {
      expected.out[c] += term.weight / total * sequence.pages.value(kvHead, term.token, c);
    }
  }
  for (const Term& term : terms) {
    for (int c = 0; c < d; ++c) {
      const double value = sequence.pages.value(kvHead, term.token, c);
      expected.tolerance[c] +=
          term.weight / total * (std::abs(value) * 0x1p-8 + std::abs(value - expected.out[c]) * term.doubt);
    }
  }
  return expected;
}

void expectRows(const Session& session, std::int64_t first, std::int64_t step, const std::string& what) {
  const AttentionShape& shape = session.sequence.shape;
  int clear = 0, all = 0;
  for (std::int64_t row = first; row < session.sequence.done; row += step) {
    for (int head = 0; head < shape.heads; ++head) {
      bool isClear = true;
      const Expected expected = expectedOf(session, row, head, isClear);
      ++all;
      if (!isClear) continue;
      ++clear;
      const float* out = session.sequence.out.data() + (row * shape.heads + head) * shape.headDim;
      for (int c = 0; c < shape.headDim; ++c) {
        near(out[c], expected.out[c], expected.tolerance[c] + 2e-6,
             what + ", row " + std::to_string(row) + ", head " + std::to_string(head));
      }
    }
  }
  test::equal(2 * clear > all, true, what + ": most choices of pages are clear");
}

std::string describe(Isa isa, const AttentionShape& shape) {
  return std::string(isaName(isa)) + ", " + std::to_string(shape.heads) + "/" +
         std::to_string(shape.kvHeads) + " heads of " + std::to_string(shape.headDim);
}

// 14 pages read, 2 to stay, 8 packed of which 3 are dropped, then 45 rows.
Session mixedSession(AttentionLane& lane, const AttentionShape& shape, std::int64_t chunk,
                     PrecisionClass precision = PrecisionClass::int4, std::int64_t topPages = 3) {
  constexpr std::int64_t kBefore = 14 * kPageTokens;
  Session session(shape, kBefore + 45, 21, {2, topPages});
  session.step(lane, kBefore);
  session.move(lane.isa, 10, 3, precision);
  session.all(lane, chunk);
  return session;
}

}  // namespace

TEST("partitions: rows see sink, the best of mid and recent, closed up, as in float64") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const AttentionShape shape : {AttentionShape{2, 2, 64}, AttentionShape{4, 1, 96},
                                       AttentionShape{6, 2, 16}, AttentionShape{1, 1, 256}}) {
      for (const PrecisionClass precision : {PrecisionClass::int4, PrecisionClass::int2}) {
        // All five mid pages are looked at key by key, or the four that their scales make most of.
        for (const std::int64_t topPages : {3, 1}) {
          const Session session = mixedSession(lane, shape, 45, precision, topPages);
          expectRows(session, 14 * kPageTokens, 11, describe(isa, shape));
        }
      }
    }
  }
}

TEST("partitions: neither chunks nor the team change a bit") {
  for (const Isa isa : availableIsas()) {
    for (const AttentionShape shape : {AttentionShape{4, 2, 64}, AttentionShape{3, 3, 48}}) {
      AttentionLane lane(isa), team(isa, 3);
      const Session whole = mixedSession(lane, shape, 45);
      for (const std::int64_t chunk : {1, 7, 32}) {
        const Session one = mixedSession(lane, shape, chunk), other = mixedSession(team, shape, chunk);
        const auto bytes = whole.sequence.out.size() * sizeof(float);
        test::equal(std::memcmp(one.sequence.out.data(), whole.sequence.out.data(), bytes), 0,
                    describe(isa, shape) + ", chunks");
        test::equal(std::memcmp(other.sequence.out.data(), whole.sequence.out.data(), bytes), 0,
                    describe(isa, shape) + ", three threads");
      }
    }
  }
}

TEST("partitions: where nothing is absent the bits are those of full attention") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    const AttentionShape shape{4, 2, 64};
    const auto run = [&](bool always) {
      Session session(shape, 9 * kPageTokens + 5, 22, {2, 4});
      session.step(lane, 8 * kPageTokens);
      session.move(isa, 5, 0);
      session.always = always;
      session.all(lane, 8);
      return session;
    };
    const Session full = run(false), selected = run(true);
    test::equal(std::memcmp(full.sequence.out.data(), selected.sequence.out.data(),
                            full.sequence.out.size() * sizeof(float)),
                0, describe(isa, shape));
  }
}

TEST("partitions: what a token sees does not drift with the length of the session") {
  // The same keys at the same distances, before and behind a million dropped tokens: the difference is of
  // bf16 keys and queries that were rounded elsewhere, and no more than that.
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    const AttentionShape shape{2, 2, 64};
    const auto run = [&](std::int64_t droppedPages) {
      Session session(shape, 4 * kPageTokens, 23, {1, 1});
      session.step(lane, kPageTokens);
      session.partitions.droppedPages = droppedPages;
      Sequence& sequence = session.sequence;
      // The rest, as if it came so much later.
      const std::int64_t shift = session.dropped();
      std::vector<float> out;
      const RopeTable rope = plainRope(shape.headDim);
      const std::int64_t count = 3 * kPageTokens;
      const std::vector<EntryRows> entries{{0, count, kPageTokens, shift}};
      const std::vector<KvView> views{sequence.pages.view()};
      std::vector<float> qkv(sequence.qkv.begin() + kPageTokens * sequence.cols, sequence.qkv.end());
      out.resize(count * shape.heads * shape.headDim);
      const Tensor x{qkv.data(), count, sequence.cols};
      cpu::appendKv(lane.team, lane.angles, x, entries, views, shape, rope, {}, {}, 0);
      cpu::attendPartitions(isa, lane.team, lane.workspace, x, entries, views, {&session.partitions, 1},
                            shape, rope, {out.data(), count, std::int64_t{shape.heads} * shape.headDim});
      return out;
    };
    const std::vector<float> near0 = run(0), far = run(31'250);
    double worst = 0;
    for (std::size_t i = 0; i < far.size(); ++i) {
      worst = std::max(worst, std::abs(double{far[i]} - near0[i]));
    }
    near(worst, 0.015, 0.0149, isaName(isa));
  }
}

TEST("partitions: a query that is not a number selects pages all the same") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    const AttentionShape shape{2, 1, 64};
    constexpr std::int64_t kBefore = 14 * kPageTokens;
    Session session(shape, kBefore + 2, 24, {2, 1});
    session.step(lane, kBefore);
    session.move(isa, 10, 3);
    // Of the next token, in one head.
    session.sequence.qkv[kBefore * session.sequence.cols + 5] = NAN;
    session.all(lane, 1);
    const float* out = session.sequence.out.data() + kBefore * shape.heads * shape.headDim;
    test::equal(std::isnan(out[0]), true, std::string(isaName(isa)) + ": it has no answer");
    test::equal(std::isnan(out[shape.headDim]), false,
                std::string(isaName(isa)) + ": the other head has one");
  }
}
