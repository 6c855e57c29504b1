#include "cpu/attention/best-pages.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>

namespace tandem::cpu {
namespace {

// Of two numbers the larger has the larger order.
std::uint32_t orderOf(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return bits ^ (static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 31) | 0x80000000u);
}

constexpr int kBinBits = 8;

}  // namespace

void BestPages::keep(std::span<const float> promises, std::size_t count, std::vector<std::int64_t>& pages) {
  if (count >= pages.size()) return;
  orders_.resize(pages.size());
  std::ranges::transform(promises, orders_.begin(), orderOf);
  auto [limit, equals] = limitOf(count);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const bool isEqual = orders_[i] == limit && equals > 0;
    pages[kept] = pages[i];
    kept += orders_[i] > limit || isEqual ? 1 : 0;
    equals -= isEqual ? 1 : 0;
  }
  pages.resize(kept);
}

// Counts how many fall into each part of the range, so that only those of one part need be looked at closer.
BestPages::Limit BestPages::limitOf(std::size_t count) {
  const auto [lowest, highest] = std::ranges::minmax(orders_);
  const int shift = std::max(0, static_cast<int>(std::bit_width(highest - lowest)) - kBinBits);
  std::array<std::uint32_t, 1 << kBinBits> counts{};
  for (const std::uint32_t order : orders_) ++counts[(order - lowest) >> shift];
  std::uint32_t bin = counts.size() - 1;
  std::size_t left = count;
  for (; counts[bin] < left; --bin) left -= counts[bin];
  among_.clear();
  for (const std::uint32_t order : orders_) {
    if ((order - lowest) >> shift == bin) among_.push_back(order);
  }
  const auto last = among_.begin() + static_cast<std::ptrdiff_t>(left - 1);
  std::ranges::nth_element(among_, last, std::greater{});
  const auto higher = static_cast<std::size_t>(std::count_if(
      among_.begin(), among_.end(), [order = *last](std::uint32_t other) { return other > order; }));
  return {*last, left - higher};
}

}  // namespace tandem::cpu
