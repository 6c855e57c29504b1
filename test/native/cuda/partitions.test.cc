// Attention to sequences in partitions, kernel by kernel: which pages are chosen, and what rows make of them,
// against float64 and the CPU.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/partition-attention.h"
#include "cuda/partition-runs.h"
#include "cuda/rope-angles.h"
#include "cuda/select-pages.h"
#include "page-pool.h"
#include "paged-attention-case.h"
#include "partition-case.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// A row that sees a selection: of a sequence, counted from its first such row.
struct CaseRow {
  CaseRow(std::int64_t row, int of = 0) : number(row), sequence(of) {}

  std::int64_t number;
  int sequence;
};
using CaseRows = std::vector<CaseRow>;

// Sessions of the same shape whose tokens from `first` on see a selection, with their pages on the device.
// Queries are bf16 for both.
class PartitionCase {
 public:
  PartitionCase(std::vector<Session> made, std::int64_t first) : sessions(std::move(made)), first_(first) {
    const AttentionShape& shape = sessions[0].sequence.shape;
    std::vector<std::int64_t> held;
    for (const Session& each : sessions) held.push_back(each.sequence.done - each.dropped());
    pages_.emplace_back(PageFormat{sessions[0].sequence.pages.format.precision, shape.kvHeads, shape.headDim},
                        held);
    for (int i = 0; i < static_cast<int>(sessions.size()); ++i) {
      Sequence& sequence = sessions[i].sequence;
      for (std::int64_t page = 0; page * kPageTokens < held[i]; ++page) {
        const PageFormat format = sequence.pages.formatOf(page * kPageTokens);
        std::memcpy(pages_[0].page(i, page), sequence.pages.table[page], format.pageBytes());
        pages_[0].setClass(i, page, format.precision);
      }
      for (float& value : sequence.rotated) value = toFloat(toBf16(value));
    }
  }

  // Of the first sequence.
  Session& session() { return sessions[0]; }
  const AttentionShape& shape() const { return sessions[0].sequence.shape; }
  const PagePartitions& partitions() const { return sessions[0].partitions; }
  int scoredPages() const { return static_cast<int>(partitions().selection.scoredPages); }

  // Its oldest mid pages become far.
  void moveFar(std::int64_t count) {
    const std::int64_t sink = partitions().selection.sinkPages;
    for (std::int64_t page = sink; page < sink + count; ++page) pages_[0].moveFar(0, page);
  }

  // What the rows numbered from `first_` on make of it together, in a launch that has room for `spare` more
  // mid pages and runs than they need.
  std::vector<std::vector<bf16>> attend(const CaseRows& numbers, int spare = 0) {
    const AttentionShape& shape = this->shape();
    const Rows rows = rowsOf(numbers);
    cuda::PartitionSizes sizes{static_cast<int>(numbers.size()), rows.mostMid + spare, spare};
    const int topPages = static_cast<int>(partitions().selection.topPages);
    for (const cuda::PartitionedRow& row : rows.list) {
      sizes.mostRuns = std::max(sizes.mostRuns, cuda::runsOf(row, topPages) + spare);
    }
    DeviceArray<bf16> qkv(rows.qkv), out(std::vector<bf16>((rows.list.size() + 1) * width(), toBf16(NAN)));
    DeviceArray<cuda::PartitionedRow> list(rows.list);
    DeviceArray<float> turns = turnsFor(sizes.mostMid);
    DeviceArray<float> scratch(std::vector<float>(
        cuda::partitionScratch(sizes, shape.heads, shape.kvHeads, shape.headDim, topPages, scoredPages()) /
            sizeof(float),
        NAN));
    cuda::attendPartitions(
        {qkv.data(), pages_[0].upload(), list.data(), sizes, ofSeveral, shape.heads, topPages, scoredPages(),
         turns.data(), reinterpret_cast<std::byte*>(scratch.data()), out.data()},
        kStream);
    const std::vector<bf16> all = out.read();
    std::vector<std::vector<bf16>> made;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(rows.list[i].row * width());
      made.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(width()));
    }
    return made;
  }

  // Of each row and KV head.
  struct Selected {
    std::vector<std::vector<std::int64_t>> pages;    // that are chosen, ascending
    std::vector<std::vector<std::uint32_t>> scores;  // of the newest mid pages
  };
  Selected selectAndScore(const CaseRows& numbers) {
    const Rows rows = rowsOf(numbers);
    cuda::SelectPages problem;
    problem.tables = pages_[0].upload();
    problem.rowCount = static_cast<int>(numbers.size());
    problem.ofSeveral = ofSeveral;
    problem.heads = shape().heads;
    problem.topPages = static_cast<int>(partitions().selection.topPages);
    problem.scoredPages = scoredPages();
    problem.mostMid = rows.mostMid;
    const std::size_t each = numbers.size() * static_cast<std::size_t>(shape().kvHeads);
    DeviceArray<bf16> qkv(rows.qkv);
    DeviceArray<cuda::PartitionedRow> list(rows.list);
    DeviceArray<float> turns = turnsFor(problem.mostMid);
    DeviceArray<std::uint32_t> orders(each * static_cast<std::size_t>(problem.mostMid));
    DeviceArray<std::int32_t> pages(std::vector<std::int32_t>(each * problem.pageStride(), -1));
    problem.qkv = qkv.data();
    problem.rows = list.data();
    problem.turns = turns.data();
    problem.orders = orders.data();
    problem.pages = pages.data();
    cuda::selectPages(problem, kStream);
    const std::vector<std::int32_t> all = pages.read();
    const std::vector<std::uint32_t> promises = orders.read();
    Selected selected;
    for (std::size_t i = 0; i < each; ++i) {
      const auto chosen = all.begin() + static_cast<std::ptrdiff_t>(i * problem.pageStride());
      selected.pages.emplace_back(chosen, chosen + problem.topPages);
      const int mid = rows.list[i / shape().kvHeads].midPages();
      const auto own = promises.begin() + static_cast<std::ptrdiff_t>(i * problem.mostMid);
      selected.scores.emplace_back(own + problem.olderOf(mid), own + mid);
    }
    return selected;
  }
  std::vector<std::vector<std::int64_t>> select(const CaseRows& numbers) {
    return selectAndScore(numbers).pages;
  }

  // Rows of the first sequence against float64 and the CPU, where no rounding would choose other pages.
  void expectReference(const CaseRows& numbers, const std::string& what) {
    const AttentionShape& shape = this->shape();
    const auto made = attend(numbers);
    AttentionLane lane(Isa::portable);
    const KvValues values(session().sequence);
    int clear = 0;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const std::int64_t row = first_ + numbers[i].number;
      session().attend(lane, row, 1);
      for (int head = 0; head < shape.heads; ++head) {
        bool isClear = true;
        const Expected expected = expectedOf(session(), values, row, head, isClear);
        if (!isClear) continue;
        ++clear;
        const float* twin = session().sequence.out.data() + (row * shape.heads + head) * shape.headDim;
        const std::string where = what + ", row " + std::to_string(row) + ", head " + std::to_string(head);
        const std::string whereCpu = where + ", the CPU's";
        for (int c = 0; c < shape.headDim; ++c) {
          const double got = toFloat(made[i][head * shape.headDim + c]);
          near(got, expected.out[c], expected.tolerance[c] + bf16Error(expected.out[c]) + 1e-5, where);
          near(got, twin[c], 2 * expected.tolerance[c] + bf16Error(twin[c]) + 2e-5, whereCpu);
        }
      }
    }
    isTrue(2 * clear > static_cast<int>(numbers.size()) * shape.heads, what + ": most choices are clear");
  }

  std::vector<Session> sessions;
  bool ofSeveral = false;

 private:
  struct Rows {
    std::vector<bf16> qkv;
    std::vector<cuda::PartitionedRow> list;
    int mostMid = 0;
  };

  std::size_t width() const { return static_cast<std::size_t>(shape().heads) * shape().headDim; }

  // The first row of the activations is nobody's.
  Rows rowsOf(const CaseRows& numbers) const {
    const std::int64_t cols = sessions[0].sequence.cols;
    Rows rows;
    rows.qkv.assign(static_cast<std::size_t>(cols), toBf16(NAN));
    for (const auto& [number, of] : numbers) {
      const Session& session = sessions[of];
      const std::int64_t row = first_ + number;
      rows.list.push_back({static_cast<std::int32_t>(rows.qkv.size() / cols), of,
                           static_cast<std::int32_t>(row - session.dropped()),
                           static_cast<std::int32_t>(session.partitions.selection.sinkPages),
                           static_cast<std::int32_t>(session.partitions.midEnd), kSinkTurn + of});
      rows.mostMid = std::max(rows.mostMid, rows.list.back().midPages());
      const auto begin = session.sequence.rotated.begin() + row * cols;
      std::transform(begin, begin + cols, std::back_inserter(rows.qkv), toBf16);
    }
    return rows;
  }

  // Those by whole pages, and behind `most` and what is nobody's those of the sinks.
  DeviceArray<float> turnsFor(int most) const {
    const int headDim = shape().headDim;
    isTrue(most < kSinkTurn, "the sink's turn comes behind the others");
    std::vector<std::int32_t> positions(kSinkTurn + sessions.size(), 1);
    for (int i = 0; i < most; ++i) positions[static_cast<std::size_t>(i)] = -i * kPageTokens;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      positions[kSinkTurn + i] =
          static_cast<std::int32_t>(-sessions[i].partitions.absentPages() * kPageTokens);
    }
    DeviceArray<float> angles(positions.size() * static_cast<std::size_t>(headDim));
    DeviceArray<std::int32_t> places(positions);
    DeviceArray<float> frequencies(plainRope(headDim).inverseFrequencies);
    cuda::ropeAngles({places.data(), frequencies.data(), angles.data(),
                      static_cast<std::int64_t>(positions.size()), headDim / 2, 1},
                     kStream);
    synchronize(kStream);
    return angles;
  }

  static constexpr int kSinkTurn = 4096;

  std::int64_t first_;
  std::vector<DevicePages> pages_;  // one
};

PartitionCase caseOf(Session session, std::int64_t first) {
  std::vector<Session> sessions;
  sessions.push_back(std::move(session));
  return {std::move(sessions), first};
}

// 14 pages read, 2 to stay, 8 packed of which 3 are dropped, then 45 rows, as the CPU's tests have it.
PartitionCase mixedCase(const AttentionShape& shape, PrecisionClass precision, std::int64_t topPages,
                        PrecisionClass pool = kBf16, std::int64_t scoredPages = kScoredPages) {
  constexpr std::int64_t kBefore = 14 * kPageTokens;
  AttentionLane lane(Isa::portable);
  Session session(shape, kBefore + 45, 21, {2, topPages, false, scoredPages}, pool);
  session.append(lane, kBefore);
  session.move(Isa::portable, 10, 3, precision);
  session.append(lane, 45);
  return caseOf(std::move(session), kBefore);
}

// `mid` pages behind one of sink, and 45 tokens behind `before`.
Session longSession(const AttentionShape& shape, std::int64_t before, std::int64_t mid, unsigned seed,
                    const PageSelection& selection) {
  AttentionLane lane(Isa::portable);
  Session session(shape, before + 45, seed, selection);
  session.append(lane, before);
  session.move(Isa::portable, 1 + mid, 0);
  session.append(lane, 45);
  return session;
}

// `mid` pages between one of sink and 45 recent tokens.
PartitionCase longCase(const AttentionShape& shape, std::int64_t mid, std::int64_t topPages,
                       std::int64_t scoredPages = kScoredPages) {
  const std::int64_t before = (1 + mid) * kPageTokens;
  return caseOf(longSession(shape, before, mid, 22, {1, topPages, false, scoredPages}), before);
}

std::string describe(const AttentionShape& shape) {
  return std::to_string(shape.heads) + "/" + std::to_string(shape.kvHeads) + " heads of " +
         std::to_string(shape.headDim);
}

}  // namespace

TEST("cuda partitions: rows see sink, the best of mid and recent, closed up, as in float64 and on the CPU") {
  for (const AttentionShape shape : {AttentionShape{2, 2, 64}, AttentionShape{4, 1, 96},
                                     AttentionShape{12, 1, 32}, AttentionShape{2, 1, 128}}) {
    // All five mid pages are the newest; or one of them is, and the four older ones are looked at key by key
    // too; or, of five older ones, the four that their scales make most of.
    for (const auto& [topPages, scoredPages] : {std::pair{3, 5}, {1, 512}, {1, 1}, {1, 0}}) {
      const PrecisionClass precision = topPages == 3 ? kInt4 : kInt2;
      PartitionCase problem = mixedCase(shape, precision, topPages, kBf16, scoredPages);
      problem.ofSeveral = topPages == 3;
      problem.expectReference({0, 20, 31, 32, 44}, describe(shape));
    }
  }
  mixedCase({4, 2, 32}, kInt4, 2, kInt8).expectReference({3, 40}, "a pool of int8");
}

TEST("cuda partitions: of many pages those are chosen that float64 chooses, in ascending order") {
  // More than a block has threads: all of them scored; none, and a shortlist that is shorter; and half. There
  // are neighbours that share runs. And more older pages than its threads look at in one turn.
  struct Load {
    std::int64_t mid, topPages, scoredPages;
  };
  int clear = 0;
  for (const auto& [mid, topPages, scoredPages] :
       {Load{340, 80, 340}, {340, 80, 0}, {340, 20, 170}, {2300, 20, 40}}) {
    PartitionCase problem = longCase({4, 2, 32}, mid, topPages, scoredPages);
    problem.ofSeveral = scoredPages == 340;
    const KvValues values(problem.session().sequence);
    const CaseRows rows{0, 17, 44};
    const auto chosen = problem.select(rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (int kvHead = 0; kvHead < 2; ++kvHead) {
        const auto& own = chosen[2 * i + static_cast<std::size_t>(kvHead)];
        bool isClear = true;
        const std::int64_t row = (mid + 1) * kPageTokens + rows[i].number;
        const auto expected = selection(problem.session(), values, row, kvHead, isClear);
        std::vector<std::int64_t> both;
        std::ranges::set_intersection(own, expected, std::back_inserter(both));
        isTrue(std::ranges::is_sorted(own), "ascending");
        // Rounding may decide at the end of both lists, between pages that promise nearly as much.
        isTrue(both.size() >= (isClear ? expected.size() : expected.size() - 3),
               "row " + std::to_string(row) + ": " + std::to_string(both.size()) + " are float64's");
        clear += both == expected;
      }
    }
  }
  isTrue(clear > 0, "some choices are float64's altogether");
}

TEST("cuda partitions: the attention of a row over many chosen pages equals float64") {
  longCase({2, 1, 32}, 40, 24).expectReference({0, 9, 44}, "24 of 40 pages");
}

TEST("cuda partitions: of pages that promise as much the earlier ones are chosen") {
  for (const std::int64_t scoredPages : {512, 10}) {
    PartitionCase problem = longCase({2, 1, 32}, 70, 3, scoredPages);
    Sequence& sequence = problem.session().sequence;
    const auto first = sequence.rotated.begin() + 71 * kPageTokens * sequence.cols;
    std::fill(first, first + sequence.cols, 0.0f);
    first[sequence.cols] = NAN;  // of the next row
    for (const bool ofSeveral : {false, true}) {
      problem.ofSeveral = ofSeveral;
      const auto chosen = problem.select({0, 1});
      const std::vector<std::int64_t> earliest{1, 2, 3};
      isTrue(chosen[0] == earliest, "where none promises more");
      isTrue(chosen[1] == earliest, "where none promises a number");
    }
  }
}

TEST("cuda partitions: a query that is not a number has no answer, and the head beside it has one") {
  PartitionCase problem = mixedCase({2, 1, 64}, kInt4, 1);
  Sequence& sequence = problem.session().sequence;
  sequence.rotated[14 * kPageTokens * sequence.cols + 5] = NAN;
  const auto out = problem.attend({0});
  isTrue(std::isnan(toFloat(out[0][0])), "its own");
  isTrue(!std::isnan(toFloat(out[0][64])), "the other head's");
}

TEST("cuda partitions: a row has the same bits alone, beside others, and in a launch with room for more") {
  for (const AttentionShape shape : {AttentionShape{4, 2, 64}, AttentionShape{3, 3, 32}}) {
    PartitionCase problem = mixedCase(shape, kInt4, 2);
    const auto together = problem.attend({44, 3, 31, 20});
    expectSame(problem.attend({3})[0], together[1], describe(shape) + ", alone");
    expectSame(problem.attend({20, 44}, 9)[1], together[0], describe(shape) + ", with room for more");
  }
}

TEST("cuda partitions: rows that share what pages cost have the bits that each has alone") {
  // Heads that fill a tile of columns, a part of one and several, of a sequence whose older pages are bounded
  // and of one that has none.
  for (const AttentionShape shape :
       {AttentionShape{1, 1, 32}, AttentionShape{8, 2, 64}, AttentionShape{5, 1, 96},
        AttentionShape{8, 1, 32}, AttentionShape{2, 1, 128}, AttentionShape{12, 1, 64},
        AttentionShape{16, 1, 32}}) {
    constexpr std::int64_t kBefore = 46 * kPageTokens;
    const PageSelection selection{1, 2, false, 36};
    std::vector<Session> sessions;
    sessions.push_back(longSession(shape, kBefore, 45, 31, selection));
    sessions.push_back(longSession(shape, kBefore, 34, 32, selection));
    PartitionCase problem(std::move(sessions), kBefore);
    Sequence& sequence = problem.session().sequence;
    sequence.rotated[(kBefore + 5) * sequence.cols] = NAN;
    // A prompt that begins within an aligned group; rows that others interrupt.
    CaseRows rows{{40, 1}, {3, 1}};
    for (std::int64_t number = 0; number < 19; ++number) rows.emplace_back(number);
    for (const CaseRow row : {CaseRow{4, 1}, {19}, {5, 1}, {6, 1}, {7, 1}, {30}, {29}}) rows.push_back(row);

    problem.ofSeveral = true;
    const auto together = problem.selectAndScore(rows);
    const auto out = problem.attend(rows);
    problem.ofSeveral = false;
    bool mixes = false;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::string what = describe(shape) + ", row " + std::to_string(i);
      const auto alone = problem.selectAndScore({rows[i]});
      for (std::size_t kvHead = 0; kvHead < static_cast<std::size_t>(shape.kvHeads); ++kvHead) {
        const std::size_t place = i * static_cast<std::size_t>(shape.kvHeads) + kvHead;
        isTrue(together.scores[place] == alone.scores[kvHead], what + ": the scores");
        isTrue(together.pages[place] == alone.pages[kvHead], what + ": the pages");
        const std::int64_t begin = problem.partitions().scoredBegin();
        const auto& [first, last] = std::pair{alone.pages[kvHead].front(), alone.pages[kvHead].back()};
        mixes |= rows[i].sequence == 0 && first < begin && last >= begin;
      }
      if (i % 3 == 0) expectSame(problem.attend({rows[i]})[0], out[i], what + ": what it makes");
    }
    isTrue(mixes, describe(shape) + ": some see older and newest pages");
  }
}

TEST("cuda partitions: of far pages a row makes the same bits as of int4 pages in place") {
  const auto expectFar = [](PartitionCase problem, std::int64_t far, const std::string& what) {
    const CaseRows numbers{0, 17, 31, 32, 44};
    const auto chosen = problem.select(numbers);
    const auto out = problem.attend(numbers);
    problem.moveFar(far);
    isTrue(problem.select(numbers) == chosen, what + ": the same pages are chosen");
    const auto moved = problem.attend(numbers);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      expectSame(moved[i], out[i], what + ", row " + std::to_string(numbers[i].number));
    }
    // Far pages are among those that are chosen, and so are others.
    const std::int64_t firstNear = problem.partitions().selection.sinkPages + far;
    const auto isFar = [&](std::int64_t page) { return page < firstNear; };
    isTrue(std::ranges::any_of(chosen, [&](const auto& own) { return std::ranges::any_of(own, isFar); }),
           what + ": a far page is seen");
    isTrue(far == problem.partitions().midPages() ||
               std::ranges::any_of(chosen, [&](const auto& own) { return !std::ranges::all_of(own, isFar); }),
           what + ": a page in place is seen");
  };
  for (const AttentionShape shape : {AttentionShape{2, 2, 64}, AttentionShape{4, 1, 96},
                                     AttentionShape{12, 1, 32}, AttentionShape{2, 1, 128}}) {
    // The five mid pages are scored key by key, or bounded by their outlines first.
    expectFar(mixedCase(shape, kInt4, 3), 3, describe(shape) + ", 3 chosen");
    expectFar(mixedCase(shape, kInt4, 1, kBf16, 0), 3, describe(shape) + ", 1 chosen");
  }
  expectFar(mixedCase({4, 2, 32}, kInt4, 2, kInt8), 5, "a pool of int8, all of mid far");
  for (const std::int64_t far : {20, 60}) {
    expectFar(longCase({4, 2, 32}, 70, 9, 20), far,
              "9 of 70 pages, " + std::to_string(far) + " of them far, 20 the newest");
  }
}

TEST("cuda partitions: a row that sees all of mid sees its far pages") {
  PartitionCase problem = mixedCase({4, 2, 64}, kInt4, 5);
  const auto out = problem.attend({0, 44});
  problem.moveFar(2);
  const auto moved = problem.attend({0, 44});
  for (std::size_t i = 0; i < out.size(); ++i) expectSame(moved[i], out[i], "row " + std::to_string(i));
}

TEST("cuda partitions: refuses what it has no kernel for, by name") {
  const auto run = [&](int heads, PageFormat format, int topPages) {
    cuda::SelectPages problem;
    problem.tables.format = format;
    problem.rowCount = 1;
    problem.heads = heads;
    problem.topPages = topPages;
    problem.mostMid = 9;
    cuda::selectPages(problem, kStream);
  };
  throws([&] { run(2, {kBf16, 1, 80}, 1); }, "not 80");
  throws([&] { run(17, {kBf16, 1, 64}, 1); }, "16 query heads");
  throws([&] { run(3, {kBf16, 2, 64}, 1); }, "multiple of kvHeads");
  throws([&] { run(2, {kBf16, 1, 64}, 0); }, "some mid pages");
}
