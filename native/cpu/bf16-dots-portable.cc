#include "cpu/bf16-dots.h"
#include "cpu/portable-vectors.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

// bf16 in pairs, widened.
struct Pairs {
  [[gnu::always_inline]] explicit Pairs(Words words)
      : first(reinterpret_cast<Floats>(words << 16)), second(reinterpret_cast<Floats>(words & 0xffff0000u)) {}
  Floats first, second;
};

// `kVectors` * 4 outputs from `at` on. What of the panel is widened serves all rows.
template <int kRows, int kVectors>
[[gnu::always_inline]] inline void addTile(const bf16* const* a, const bf16* panel, std::size_t outputs,
                                           std::size_t inputs, std::size_t at, float* const* sums) {
  Floats tile[kRows][kVectors];
  unroll<kRows>([&](auto row) {
    unroll<kVectors>([&](auto v) { tile[row][v] = load<Floats>(sums[row] + at + v * 4); });
  });
  const bf16* b = panel + 2 * at;
  for (std::size_t k = 0; k < inputs; k += 2, b += 2 * outputs) {
    Floats even[kVectors], odd[kVectors];
    unroll<kVectors>([&](auto v) {
      const Pairs pairs(load<Words>(b + v * 8));
      even[v] = pairs.first, odd[v] = pairs.second;
    });
    unroll<kRows>([&](auto row) {
      const Pairs pair(loadToAll(a[row] + k));
      unroll<kVectors>([&](auto v) {
        tile[row][v] = multiplyAdd(pair.second, odd[v], multiplyAdd(pair.first, even[v], tile[row][v]));
      });
    });
  }
  unroll<kRows>(
      [&](auto row) { unroll<kVectors>([&](auto v) { store(tile[row][v], sums[row] + at + v * 4); }); });
}

}  // namespace

void addDots(int rows, const bf16* const* a, const bf16* panel, std::size_t outputs, std::size_t inputs,
             float* const* sums) {
  byGroups<kDotRows>(rows, [&](auto count, int row) {
    constexpr int kVectors = tileVectors(count);
    std::size_t at = 0;
    for (; at + kVectors * 4 <= outputs; at += kVectors * 4) {
      addTile<count, kVectors>(a + row, panel, outputs, inputs, at, sums + row);
    }
    for (; at < outputs; at += 8) addTile<count, 2>(a + row, panel, outputs, inputs, at, sums + row);
  });
}

}  // namespace tandem::cpu
