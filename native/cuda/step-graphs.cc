#include "cuda/step-graphs.h"

#include <algorithm>

#include "core/error.h"

namespace tandem::cuda {
namespace {

// A graph of a model of 32 layers holds some 300 kernels' arguments, a few hundred kilobytes.
constexpr std::size_t kMostKinds = 128;

}  // namespace

// Whether the driver records streams at all, green contexts' too. Found out without a step at stake.
bool StepGraphs::canRecord(Stream stream) {
  if (probed_) return works_;
  probed_ = true;
  try {
    beginRecording(stream);
    endRecording(stream);
    works_ = true;
  } catch (const DeviceLost&) {
    throw;
  } catch (const Error&) {
    abandonRecording(stream);
  }
  return works_;
}

StepGraphs::Turn StepGraphs::next(const Kind& kind) {
  if (!canRecord(kind.stream)) return Turn::run;
  if (!entries_.contains(kind) && entries_.size() == kMostKinds) forgetOldest();
  const auto [entry, isNew] = entries_.try_emplace(kind);
  entry->second.lastUse = ++uses_;
  current_ = entry;
  if (entry->second.graph) return Turn::replay;
  return isNew ? Turn::run : Turn::record;
}

void StepGraphs::forgetOldest() {
  entries_.erase(
      std::ranges::min_element(entries_, {}, [](const auto& entry) { return entry.second.lastUse; }));
}

void StepGraphs::begin() {
  beginRecording(current_->first.stream);
  recording_ = true;
}

void StepGraphs::end() {
  const Stream stream = current_->first.stream;
  if (recording_) {
    recording_ = false;
    current_->second.graph = endRecording(stream);
  }
  current_->second.graph.launch(stream);
}

void StepGraphs::abandon() noexcept {
  if (!recording_) return;
  recording_ = false;
  abandonRecording(current_->first.stream);
}

}  // namespace tandem::cuda
