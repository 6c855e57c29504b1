#pragma once

// Pages of several sequences in one pool on the device, scattered and surrounded by NaN, as one layer of two.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/page-tables.h"
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
    const auto all = static_cast<std::int64_t>(tokens.size()) * stride_;
    table_.resize(static_cast<std::size_t>(all));
    for (std::int64_t i = 0; i < all; ++i) table_[i] = static_cast<std::int32_t>(i);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(seed));
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

  // The host's copy to the device, and back.
  cuda::PageTables upload() {
    memory_ = std::vector<DeviceArray<float>>();
    tables_ = std::vector<DeviceArray<std::int32_t>>();
    memory_.emplace_back(host_);
    tables_.emplace_back(table_);
    auto* pages = reinterpret_cast<std::byte*>(memory_[0].data()) + format_.pageBytes();
    return {pages, blockBytes(), tables_[0].data(), stride_, format_};
  }
  void download() { host_ = memory_[0].read(); }

  const PageFormat& format() const { return format_; }
  const std::vector<float>& host() const { return host_; }

 private:
  std::size_t blockBytes() const { return 2 * format_.pageBytes(); }

  PageFormat format_;
  std::int64_t stride_;
  std::vector<float> host_;
  std::vector<std::int32_t> table_;
  std::vector<DeviceArray<float>> memory_;
  std::vector<DeviceArray<std::int32_t>> tables_;
};

}  // namespace tandem::test
