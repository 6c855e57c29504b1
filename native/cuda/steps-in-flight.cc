#include "cuda/steps-in-flight.h"

#include "core/error.h"

namespace tandem::cuda {

StepsInFlight::StepsInFlight(int layers) : flights_{Flight(layers), Flight(layers)} {}

void StepsInFlight::begin(std::int64_t rows, Stream stream) {
  check(!isOpen_ && submitted_ - finished_ < flights_.size(), "a lane has two steps at a time at most");
  isOpen_ = true;
  timer().start(rows, submitted_, stream);
}

void StepsInFlight::submit(Stream stream) {
  begun().done.record(stream);
  isOpen_ = false;
  ++submitted_;
}

void StepsInFlight::abandon() noexcept {
  isOpen_ = false;
  samples().forget();
}

void StepsInFlight::await(std::uint64_t step) { flights_[step % flights_.size()].done.wait(); }

StepSeconds StepsInFlight::finish() {
  check(finished_ < submitted_, "no step is to be finished");
  Flight& flight = flights_[finished_++ % flights_.size()];
  try {
    flight.done.wait();
  } catch (...) {
    flight.samples.forget();
    throw;
  }
  const StepTimer::Clock::time_point free = lastEnd_;
  lastEnd_ = StepTimer::Clock::now();
  if (flight.samples.isPending()) flight.samples.report();
  return flight.timer.seconds(free, lastEnd_);
}

}  // namespace tandem::cuda
