#include "cpu/attention/probe.h"

#include <string>

#include "attention-case.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// The sums of rows [first, first + count), looked at in entries of `chunk` rows.
std::vector<std::uint32_t> probed(AttentionLane& lane, Sequence& sequence, std::int64_t first,
                                  std::int64_t count, std::int64_t chunk) {
  std::vector<EntryRows> entries;
  std::vector<KvView> views;
  std::vector<std::uint32_t> sums(sequence.pages.table.size());
  std::vector<std::span<std::uint32_t>> saliency;
  for (std::int64_t row = first; row < first + count; row += chunk) {
    entries.push_back({row, std::min(chunk, first + count - row), row});
    views.push_back(sequence.pages.view());
    saliency.emplace_back(sums);
  }
  cpu::probe(lane.isa, lane.team, lane.workspace, {sequence.rotated.data(), sequence.tokens, sequence.cols},
             entries, views, sequence.shape, saliency);
  return sums;
}

const AttentionShape kShapes[] = {{4, 1, 64}, {2, 2, 80}, {8, 2, 128, 150}, {12, 1, 16}};

}  // namespace

TEST("probe: the parts of a row's attention equal float64, over pages of every class and none") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const AttentionShape& shape : kShapes) {
      Sequence sequence(shape, 330, 31);
      lane.all(sequence, 330);
      const PrecisionClass classes[] = {PrecisionClass::int4, PrecisionClass::int2, PrecisionClass::bf16,
                                        PrecisionClass::int8};
      for (std::int64_t page = 0; page < 8; ++page) {
        const PrecisionClass to = classes[page % 4];
        if (to != PrecisionClass::bf16) sequence.pages.convert(isa, page, to);
      }
      sequence.pages.giveUp(6);
      const KvValues values(sequence);
      for (const std::int64_t row : {329, 300, 288}) {
        const std::vector<std::uint32_t> sums = probed(lane, sequence, row, 1, 1);
        std::vector<double> parts(sums.size());
        for (int head = 0; head < shape.heads; ++head) {
          const Expected expected = reference(sequence, values, row, head);
          for (std::size_t page = 0; page < parts.size(); ++page) {
            parts[page] += expected.parts[page] / shape.heads;
          }
        }
        double total = 0;
        for (std::size_t page = 0; page < parts.size(); ++page) {
          const double part = static_cast<double>(sums[page]) / kSaliencyUnits;
          total += part;
          // Queries are rounded to bf16 again where a page's key steps are in them.
          near(part, parts[page], 0.02 * parts[page] + 2e-4,
               std::string(isaName(isa)) + ", page " + std::to_string(page));
        }
        near(total, 1, 1e-5, "all of a row's attention");
        equal(sums[6], 0u, "what falls on a page that was given up");
      }
    }
  }
}

TEST("probe: sums are the same bits for any cut of the rows and any team, and add to what is there") {
  for (const Isa isa : availableIsas()) {
    for (const AttentionShape& shape : kShapes) {
      Sequence sequence(shape, 290, 33);
      AttentionLane one(isa), three(isa, 3);
      one.all(sequence, 290);
      sequence.pages.convert(isa, 1, PrecisionClass::int2);
      const std::vector<std::uint32_t> whole = probed(one, sequence, 200, 90, 90);
      for (AttentionLane* lane : {&one, &three}) {
        for (const std::int64_t chunk : {1, 7, 64}) {
          isTrue(probed(*lane, sequence, 200, 90, chunk) == whole,
                 std::string(isaName(isa)) + ", in " + std::to_string(chunk));
        }
      }
    }
  }
}

TEST("probe: sums over far pages have the bits of int4 ones in their places") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const AttentionShape& shape : kShapes) {
      Sequence sequence(shape, 290, 34);
      lane.all(sequence, 290);
      for (const std::int64_t page : {0, 1, 2, 4, 5}) sequence.pages.convert(isa, page, PrecisionClass::int4);
      const std::vector<std::uint32_t> expected = probed(lane, sequence, 200, 90, 90);
      for (const std::int64_t page : {1, 2, 5}) sequence.pages.convert(isa, page, PrecisionClass::far);
      isTrue(probed(lane, sequence, 200, 90, 90) == expected, isaName(isa));
    }
  }
}

TEST("probe: refuses what does not fit, by name") {
  AttentionLane lane(Isa::portable);
  Sequence sequence({2, 1, 64}, 200, 34);
  lane.all(sequence, 200);
  throws([&] { probed(lane, sequence, 0, kMostProbes + 1, kMostProbes + 1); }, "too many rows");
  const EntryRows entry{199, 1, 199};
  const KvView view = sequence.pages.view();
  std::vector<std::uint32_t> few(6);
  const std::span<std::uint32_t> sums(few);
  throws(
      [&] {
        cpu::probe(lane.isa, lane.team, lane.workspace,
                   {sequence.rotated.data(), sequence.tokens, sequence.cols}, {&entry, 1}, {&view, 1},
                   sequence.shape, {&sums, 1});
      },
      "fewer than its pages");
}
