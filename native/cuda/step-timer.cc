#include "cuda/step-timer.h"

#include <algorithm>
#include <numeric>

namespace tandem::cuda {
namespace {

constexpr std::int64_t kManyRows = 256;
constexpr std::uint64_t kEvery = 16;

// A layer's laps, and those of a few rounds of logits. A step with more of those is not measured.
constexpr int kLapsOfLayer = 7, kOtherLaps = 64;

}  // namespace

StepTimer::StepTimer(int layers) {
  const int laps = layers * kLapsOfLayer + kOtherLaps;
  laps_.reserve(static_cast<std::size_t>(laps));
  for (int i = 0; i <= laps; ++i) events_.emplace_back(true);
}

void StepTimer::start(std::int64_t rows, std::uint64_t step, Stream stream) {
  began_ = Clock::now();
  measured_ = rows >= kManyRows || step % kEvery == 0;
  laps_.clear();
  if (measured_) events_[0].record(stream);
}

void StepTimer::lap(OperatorClass of, Stream stream) {
  if (!measured_) return;
  if (laps_.size() + 1 == events_.size()) {
    measured_ = false;
    return;
  }
  laps_.push_back(of);
  events_[laps_.size()].record(stream);
}

StepSeconds StepTimer::seconds(Clock::time_point free, Clock::time_point end) const {
  StepSeconds seconds{std::chrono::duration<double>(end - std::max(began_, free)).count(), {}};
  if (!measured_) return seconds;
  OpSeconds byClass{};
  for (std::size_t i = 0; i < laps_.size(); ++i) {
    byClass[static_cast<std::size_t>(laps_[i])] += events_[i + 1].secondsSince(events_[i]);
  }
  const double onDevice = std::accumulate(byClass.begin(), byClass.end(), 0.0);
  seconds.total = std::max(seconds.total, onDevice);
  byClass[static_cast<std::size_t>(OperatorClass::other)] += seconds.total - onDevice;
  seconds.byClass = byClass;
  return seconds;
}

}  // namespace tandem::cuda
