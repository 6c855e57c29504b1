#pragma once

#include <array>
#include <cstdint>

#include "cuda/runtime.h"
#include "cuda/sample.h"
#include "cuda/step-timer.h"

namespace tandem::cuda {

// The steps of a lane that are not finished, two at most: one that runs, and the next. What of a step is the
// host's exists for each of them. Not thread-safe, but for `await`.
class StepsInFlight {
 public:
  // Of steps of so many layers.
  explicit StepsInFlight(int layers);

  // A step of so many rows. Throws Error if one has begun already, or two are not finished.
  void begin(std::int64_t rows, Stream stream);
  // Whether a step has begun and is not submitted.
  bool isOpen() const { return isOpen_; }
  // Of the step that has begun.
  StepTimer& timer() { return begun().timer; }
  SampleTransfer& samples() { return begun().samples; }
  // All that the step asks for has been enqueued.
  void submit(Stream stream);
  // The step has failed before that.
  void abandon() noexcept;

  // Blocks until the step that was submitted as the how-manieth, from 0, is done. On any thread.
  void await(std::uint64_t step);
  // Waits for the oldest step, fills in what it has sampled, and says what it took its time for. Throws the
  // error of a step that has failed, whose outcomes are left alone.
  StepSeconds finish();

 private:
  struct Flight {
    explicit Flight(int layers) : timer(layers) {}
    StepTimer timer;
    SampleTransfer samples;
    Event done;
  };

  Flight& begun() { return flights_[submitted_ % flights_.size()]; }

  std::array<Flight, 2> flights_;
  std::uint64_t submitted_ = 0, finished_ = 0;
  bool isOpen_ = false;
  StepTimer::Clock::time_point lastEnd_{};  // of the step finished last
};

}  // namespace tandem::cuda
