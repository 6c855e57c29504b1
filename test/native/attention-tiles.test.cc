// The AMX attention on emulated tiles, against its plain twin.

#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "emulated-tile-kernels.h"

using namespace tandem;
using namespace tandem::cpu;

namespace {

// What goes with a page's elements: nothing, scales per token as of int8, or what packed classes have.
enum class Kind { plain, scaled, packed };

// Some queries before two pages, the second partly visible.
struct Meeting {
  Meeting(int queries, int headDim, unsigned seed)
      : queries(queries), headDim(headDim), stride((headDim + 31) / 32 * 32), q(queries * stride, 0) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int query = 0; query < queries; ++query) {
      for (int c = 0; c < headDim; ++c) q[query * stride + c] = toBf16(normal(random));
    }
    for (auto* page : {&first, &second}) {
      page->resize(2 * kPageTokens * headDim);
      for (bf16& value : *page) value = toBf16(normal(random));
    }
    for (float& scale : scales) scale = 0.5f + static_cast<float>(random() % 100) / 100;
    for (float& middle : middles) middle = normal(random);
    for (float& offset : offsets) offset = 3 * normal(random);
  }

  struct State {
    std::vector<float> maximum, sum, out;
  };

  State run(void (*attendPage)(const QueryTile&, const PageTile&, Prefetch&), Kind kind) const {
    State state{std::vector<float>(queries, kNothingSeen), std::vector<float>(queries * kSumLanes),
                std::vector<float>(queries * headDim)};
    const QueryTile tile{queries,          headDim,
                         stride,           static_cast<float>(1.44269504 / std::sqrt(headDim)),
                         q.data(),         state.maximum.data(),
                         state.sum.data(), state.out.data()};
    std::vector<std::uint32_t> all(queries, 0xffffffffu), some(queries);
    for (int query = 0; query < queries; ++query) some[query] = (2u << query) - 1;
    for (const auto& [page, visible] : {std::pair{&first, &all}, std::pair{&second, &some}}) {
      PageTile view;
      view.keys = page->data();
      view.values = page->data() + kPageTokens * headDim;
      view.visible = visible->data();
      if (kind != Kind::plain) view.valueScales = scales + kPageTokens;
      if (kind == Kind::scaled) view.keyScales = scales;
      if (kind == Kind::packed) view.valueMiddles = middles, view.keyOffsets = offsets;
      Prefetch nothing;
      attendPage(tile, view, nothing);
    }
    return state;
  }

  int queries, headDim, stride;
  std::vector<bf16> q, first, second;
  float scales[2 * kPageTokens];
  float middles[kPageTokens];
  float offsets[kTileQueries];
};

}  // namespace

TEST(
    "tile attention: equals its plain twin for all head dimensions, heights, masks, scales, offsets and "
    "middles") {
  if (!test::hasAvx512()) return;
  for (const int headDim : {16, 32, 64, 80, 96, 112, 128, 256}) {
    for (const int queries : {1, 4, 15, 16}) {
      for (const Kind kind : {Kind::plain, Kind::scaled, Kind::packed}) {
        const Meeting meeting(queries, headDim, 3);
        const Meeting::State expected = meeting.run(kPortableAttention.attendPage, kind);
        const Meeting::State actual = meeting.run(test::attendPageOnEmulatedTiles, kind);
        for (int query = 0; query < queries; ++query) {
          test::near(actual.maximum[query], expected.maximum[query], 1e-5, "maximum");
          double total = 0, expectedTotal = 0;
          for (int lane = 0; lane < kSumLanes; ++lane) {
            total += actual.sum[query * kSumLanes + lane];
            expectedTotal += expected.sum[query * kSumLanes + lane];
          }
          test::near(total, expectedTotal, 1e-5 * expectedTotal, "sum");
          for (int c = 0; c < headDim; ++c) {
            // A probability near a tie may round to either neighbour.
            test::near(actual.out[query * headDim + c], expected.out[query * headDim + c], 0.02,
                       "out of head dimension " + std::to_string(headDim));
          }
        }
      }
    }
  }
}
