#include "cuda/saliency-sums.h"

#include "core/error.h"

namespace tandem::cuda {
namespace {

constexpr const char* kSightsPurpose = "where probes look; lower the longest sequence";

}  // namespace

SaliencySums::SaliencySums(std::size_t values)
    : device_(values * sizeof(std::uint32_t), kSightsPurpose),
      host_(values * sizeof(std::uint32_t), kSightsPurpose) {}

void SaliencySums::clear() {
  used_ = 0;
  arrays_.clear();
}

std::uint32_t* SaliencySums::place(std::span<const std::span<std::uint32_t>> arrays, Stream stream) {
  std::size_t values = 0;
  for (const auto& array : arrays) values += array.size();
  check(values <= room(), "probe: there is no room for so many sums at a time");
  if (used_ + values > room()) bringHome(stream);
  std::uint32_t* begin = device_.as<std::uint32_t>() + used_;
  setBytes(begin, 0, values * sizeof(std::uint32_t), stream);
  arrays_.insert(arrays_.end(), arrays.begin(), arrays.end());
  used_ += values;
  return begin;
}

void SaliencySums::bringHome(Stream stream) {
  if (used_ == 0) return;
  copyToHost(host_.data(), device_.data(), used_ * sizeof(std::uint32_t), stream);
  synchronize(stream);
  const std::uint32_t* found = host_.as<std::uint32_t>();
  for (const auto& array : arrays_) {
    for (std::uint32_t& sum : array) sum += *found++;
  }
  clear();
}

}  // namespace tandem::cuda
