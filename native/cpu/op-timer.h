#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <numeric>

#include "core/operator-class.h"

namespace tandem::cpu {

// Divides the time since `start` among the classes: each lap goes to the class of the op that ends it, with
// what was prepared for it, so nothing is lost between ops and an op costs one look at the clock. It sees the
// work of ops that return when they are done; where they enqueue, the device's own clock is needed.
class OpTimer {
 public:
  void start() {
    spent_.fill({});
    last_ = Clock::now();
  }

  void lap(OperatorClass of) {
    const Clock::time_point now = Clock::now();
    spent_[static_cast<std::size_t>(of)] += now - last_;
    last_ = now;
  }

  StepSeconds seconds() const {
    OpSeconds seconds;
    for (std::size_t i = 0; i < kOperatorClasses; ++i) {
      seconds[i] = std::chrono::duration<double>(spent_[i]).count();
    }
    return {std::accumulate(seconds.begin(), seconds.end(), 0.0), seconds};
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::array<Clock::duration, kOperatorClasses> spent_{};
  Clock::time_point last_ = Clock::now();
};

}  // namespace tandem::cpu
