#include "cuda/gather-pages.h"

#include <random>

#include "check.h"
#include "device-array.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr std::int64_t kStride = 160;

// Tables of three slots whose entries are numbers, of which the step's two sequences have the last and the
// first.
struct Gathering {
  std::vector<std::vector<bool>> seen;  // of each sequence's pages

  std::uint64_t entryOf(std::size_t sequence, std::size_t page) const {
    return 64 * (1000 * (sequence == 0 ? 2 : 0) + page + 1);
  }

  // The rows that are written; what is left as it was is 1.
  std::vector<std::vector<std::uint64_t>> gather(bool closesUp) const {
    std::vector<std::uint64_t> entries(3 * kStride);
    for (std::size_t slot = 0; slot < 3; ++slot) {
      for (std::int64_t page = 0; page < kStride; ++page) {
        entries[slot * kStride + page] = 64 * (1000 * slot + static_cast<std::uint64_t>(page) + 1);
      }
    }
    std::vector<cuda::SeenRow> rows;
    std::vector<cuda::SeenWord> words;
    std::int32_t most = 0;
    for (const std::vector<bool>& pages : seen) {
      rows.push_back({static_cast<std::int32_t>(pages.size()), static_cast<std::int32_t>(words.size())});
      most = std::max(most, rows.back().pages);
      std::uint32_t before = 0;
      for (std::size_t first = 0; first < pages.size(); first += cuda::kWordPages) {
        words.push_back({0, before});
        for (std::size_t page = first; page < std::min(pages.size(), first + cuda::kWordPages); ++page) {
          if (!pages[page]) continue;
          words.back().bits |= 1u << (page - first);
          ++before;
        }
      }
    }
    DeviceArray<std::uint64_t> table(entries), to(std::vector<std::uint64_t>(seen.size() * kStride, 1));
    DeviceArray<std::int32_t> slots(std::vector<std::int32_t>{2, 0});
    DeviceArray<cuda::SeenRow> deviceRows(rows);
    DeviceArray<cuda::SeenWord> deviceWords(words);
    cuda::gatherPages({{table.data(), kStride, slots.data(), {PrecisionClass::bf16, 1, 32}},
                       deviceRows.data(),
                       deviceWords.data(),
                       static_cast<int>(seen.size()),
                       most,
                       closesUp,
                       to.data()},
                      kStream);
    const std::vector<std::uint64_t> all = to.read();
    std::vector<std::vector<std::uint64_t>> made;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      made.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(i * kStride),
                        all.begin() + static_cast<std::ptrdiff_t>((i + 1) * kStride));
    }
    return made;
  }

  std::vector<std::uint64_t> expected(std::size_t sequence, bool closesUp) const {
    std::vector<std::uint64_t> row;
    for (std::size_t page = 0; page < seen[sequence].size(); ++page) {
      if (seen[sequence][page]) {
        row.push_back(entryOf(sequence, page));
      } else if (!closesUp) {
        row.push_back(0);
      }
    }
    row.resize(kStride, 1);
    return row;
  }
};

}  // namespace

TEST("cuda gather pages: those that are seen close up, or stay where they are among nothing") {
  std::mt19937 random(7);
  for (const double share : {0.0, 0.2, 1.0}) {
    std::bernoulli_distribution isSeen(share);
    Gathering problem;
    for (const std::size_t pages : {150, 33}) {
      std::vector<bool>& row = problem.seen.emplace_back();
      for (std::size_t page = 0; page < pages; ++page) row.push_back(isSeen(random));
    }
    for (const bool closesUp : {true, false}) {
      const auto rows = problem.gather(closesUp);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        isTrue(rows[i] == problem.expected(i, closesUp), "sequence " + std::to_string(i));
      }
    }
  }
}
