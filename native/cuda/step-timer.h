#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "core/operator-class.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// How long a lane's steps take, and of some of them what the device was busy with: an event between two
// classes of operators costs it a microsecond or two, which is nothing in a step of a long prompt but some 4%
// of a decode step of a large model, so of the short steps every sixteenth is measured.
class StepTimer {
 public:
  // Of a step of so many layers.
  explicit StepTimer(int layers);

  void start(std::int64_t rows, Stream stream);
  bool isMeasuring() const { return measured_; }
  void lap(OperatorClass of, Stream stream);
  // Once the step has been waited for. What the host added to the device's time counts as `other`.
  StepSeconds seconds();

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point began_;
  std::size_t steps_ = 0;
  bool measured_ = false;
  std::vector<Event> events_;  // the step's begin, then the end of each lap
  std::vector<OperatorClass> laps_;
};

}  // namespace tandem::cuda
