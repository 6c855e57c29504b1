#include "cpu/attention/partitions.h"

#include <algorithm>
#include <cstring>

#include "check.h"
#include "partition-case.h"

using namespace tandem;
using namespace tandem::test;

namespace {

void expectRows(const Session& session, std::int64_t first, std::int64_t step, const std::string& what) {
  const AttentionShape& shape = session.sequence.shape;
  const KvValues values(session.sequence);
  int clear = 0, all = 0;
  for (std::int64_t row = first; row < session.sequence.done; row += step) {
    for (int head = 0; head < shape.heads; ++head) {
      bool isClear = true;
      const Expected expected = expectedOf(session, values, row, head, isClear);
      ++all;
      if (!isClear) continue;
      ++clear;
      const float* out = session.sequence.out.data() + (row * shape.heads + head) * shape.headDim;
      const std::string where = what + ", row " + std::to_string(row) + ", head " + std::to_string(head);
      for (int c = 0; c < shape.headDim; ++c) {
        near(out[c], expected.out[c], expected.tolerance[c] + 2e-6, where);
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
                     PrecisionClass precision = PrecisionClass::int4, std::int64_t topPages = 3,
                     std::int64_t scoredPages = kScoredPages) {
  constexpr std::int64_t kBefore = 14 * kPageTokens;
  Session session(shape, kBefore + 45, 21, {2, topPages, false, scoredPages});
  session.append(lane, kBefore);
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
        for (const auto& [topPages, scoredPages] : {std::pair{3, 5}, {1, 512}, {1, 0}}) {
          const Session session = mixedSession(lane, shape, 45, precision, topPages, scoredPages);
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

TEST("partitions: mid pages that are far have the bits of those in their places") {
  constexpr std::int64_t kBefore = 20 * kPageTokens;
  for (const Isa isa : availableIsas()) {
    for (const AttentionShape shape : {AttentionShape{2, 2, 64}, AttentionShape{4, 1, 96},
                                       AttentionShape{6, 2, 16}, AttentionShape{3, 3, 48}}) {
      // All 13 mid pages are looked at key by key, or the newest and, of eight older ones, the four that
      // their scales make most of.
      for (const std::int64_t scoredPages : {13, 5}) {
        const auto run = [&](std::int64_t farEnd, std::int64_t chunk) {
          AttentionLane lane(isa, chunk == 1 ? 2 : 1);
          Session session(shape, kBefore + 20, 25, {2, 1, false, scoredPages});
          session.append(lane, kBefore);
          session.move(isa, 15, 2);
          for (std::int64_t page = 2; page < farEnd; ++page) {
            session.sequence.pages.convert(isa, page, PrecisionClass::far);
          }
          session.all(lane, chunk);
          return session;
        };
        const Session expected = run(2, 20);
        // A part of mid, and all of it.
        for (const std::int64_t farEnd : {9, 13}) {
          for (const std::int64_t chunk : {1, 20}) {
            const Session session = run(farEnd, chunk);
            test::equal(std::memcmp(session.sequence.out.data(), expected.sequence.out.data(),
                                    expected.sequence.out.size() * sizeof(float)),
                        0, describe(isa, shape) + ", far until page " + std::to_string(farEnd));
          }
        }
      }
    }
  }
}

TEST("partitions: where nothing is absent the bits are those of full attention") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    const AttentionShape shape{4, 2, 64};
    for (const std::int64_t sinkPages : {1, 2}) {
      for (const std::int64_t midEnd : {5, cpu::kSpanTokens / kPageTokens + 3}) {
        const auto run = [&](bool always) {
          Session session(shape, (midEnd + 4) * kPageTokens + 5, 22, {sinkPages, midEnd});
          session.append(lane, (midEnd + 3) * kPageTokens);
          session.move(isa, midEnd, 0);
          session.always = always;
          session.all(lane, 8);
          return session;
        };
        const Session full = run(false), selected = run(true);
        test::equal(std::memcmp(full.sequence.out.data(), selected.sequence.out.data(),
                                full.sequence.out.size() * sizeof(float)),
                    0, describe(isa, shape) + ", mid until page " + std::to_string(midEnd));
      }
    }
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
    session.append(lane, kBefore);
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
