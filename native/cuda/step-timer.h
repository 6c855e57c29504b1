#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "core/operator-class.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// How long a lane's steps take, and of some of them what the device was busy with: an event between two
// classes of operators costs it a microsecond or two, which is nothing in a step of a long prompt but some 4%
// of a decode step of a large model, so of the short steps every sixteenth is measured.
class StepTimer {
 public:
  using Clock = std::chrono::steady_clock;

  // Of a step of so many layers.
  explicit StepTimer(int layers);

  // `step`: how many steps the lane had before.
  void start(std::int64_t rows, std::uint64_t step, Stream stream);
  bool isMeasuring() const { return measured_; }
  void lap(OperatorClass of, Stream stream);
  // Once the step has been waited for, until `end`. The device was another step's until `free`. What the host
  // added to the device's time counts as `other`.
  StepSeconds seconds(Clock::time_point free, Clock::time_point end) const;

 private:
  Clock::time_point began_;
  bool measured_ = false;
  std::vector<Event> events_;  // the step's begin, then the end of each lap
  std::vector<OperatorClass> laps_;
};

}  // namespace tandem::cuda
