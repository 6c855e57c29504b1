#pragma once

// Pages of several sequences in one pool on the device, scattered and surrounded by NaN, as one layer of two.
// Sequences have every second slot of the table, the last one first.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/page-tables.h"
#include "cuda/runtime.h"
#include "device-array.h"

namespace tandem::test {

class DevicePages {
 public:
  // Room for so many tokens of each sequence.
  DevicePages(PageFormat format, const std::vector<std::int64_t>& tokens, unsigned seed = 1)
      : format_(format), stride_(1) {
    for (const std::int64_t count : tokens) {
      stride_ = std::max(stride_, (count + kPageTokens - 1) / kPageTokens);
    }
    sequences_ = static_cast<int>(tokens.size());
    const auto all = static_cast<std::int64_t>(sequences_) * stride_;
    table_.resize(static_cast<std::size_t>(all));
    for (std::int64_t i = 0; i < all; ++i) table_[i] = static_cast<std::int32_t>(i);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(seed));
    classes_.assign(table_.size(), format_.precision);
    host_.assign(static_cast<std::size_t>(all) * blockBytes() / sizeof(float), NAN);
  }

  // A page of the host's copy.
  std::byte* page(int sequence, std::int64_t index) {
    return reinterpret_cast<std::byte*>(host_.data()) + table_[sequence * stride_ + index] * blockBytes() +
           format_.pageBytes();
  }
  std::vector<std::byte*> pagesOf(int sequence, std::int64_t tokens) {
    std::vector<std::byte*> pages;
    for (std::int64_t i = 0; i * kPageTokens < tokens; ++i) pages.push_back(page(sequence, i));
    return pages;
  }

  // A page's class, which may be another than the pool's with no more bytes, or `none`.
  void setClass(int sequence, std::int64_t index, PrecisionClass precision) {
    classes_[sequence * stride_ + index] = precision;
  }

  // An int4 page becomes far, from the definition: nothing is left where it lay but an outline.
  void moveFar(int sequence, std::int64_t index) {
    const PageFormat own = format_.in(PrecisionClass::int4), outline = format_.in(PrecisionClass::far);
    std::byte* const place = page(sequence, index);
    const std::byte* const detail = details_.emplace_back(own.pageBytes(), "far pages of a test").data();
    std::memcpy(details_.back().data(), place, own.pageBytes());
    std::memset(place, 0xff, own.pageBytes());
    for (int kvHead = 0; kvHead < own.kvHeads; ++kvHead) {
      std::memcpy(place + outline.keyScales(kvHead), detail + own.keyScales(kvHead), own.keyScaleBytes());
    }
    std::memcpy(place + outline.detailPlace(), &detail, sizeof(detail));
    setClass(sequence, index, PrecisionClass::far);
  }

  // The host's copy to the device, and back; the sequences of a step, or all.
  cuda::PageTables upload() {
    std::vector<int> all(static_cast<std::size_t>(sequences_));
    std::iota(all.begin(), all.end(), 0);
    return upload(all);
  }
  cuda::PageTables upload(const std::vector<int>& sequences) {
    memory_.clear();
    entries_.clear();
    slots_.clear();
    memory_.emplace_back(host_);
    const auto* begin = reinterpret_cast<std::byte*>(memory_[0].data()) + format_.pageBytes();
    // Slots that no sequence has name a page that is not there.
    std::vector<std::uint64_t> entries(2 * table_.size(), ~std::uint64_t{0} << 6);
    const auto slotOf = [&](int sequence) { return 2 * (sequences_ - 1 - sequence) + 1; };
    std::vector<std::int32_t> slots;
    for (const int sequence : sequences) slots.push_back(slotOf(sequence));
    for (int i = 0; i < sequences_; ++i) {
      for (std::int64_t page = 0; page < stride_; ++page) {
        const PrecisionClass precision = classes_[i * stride_ + page];
        const auto* place = begin + table_[i * stride_ + page] * blockBytes();
        entries[slotOf(i) * stride_ + page] =
            cuda::pageEntry(precision == PrecisionClass::none ? nullptr : place, precision);
      }
    }
    entries_.emplace_back(entries);
    slots_.emplace_back(slots);
    return {entries_[0].data(), stride_, slots_[0].data(), format_};
  }
  void download() { host_ = memory_[0].read(); }

  const PageFormat& format() const { return format_; }
  const std::vector<float>& host() const { return host_; }

 private:
  std::size_t blockBytes() const { return 2 * format_.pageBytes(); }

  PageFormat format_;
  std::int64_t stride_;
  int sequences_ = 0;
  std::vector<float> host_;
  std::vector<std::int32_t> table_;
  std::vector<PrecisionClass> classes_;
  std::vector<cuda::PinnedMemory> details_;  // of far pages
  std::vector<DeviceArray<float>> memory_;
  std::vector<DeviceArray<std::uint64_t>> entries_;
  std::vector<DeviceArray<std::int32_t>> slots_;
};

}  // namespace tandem::test
