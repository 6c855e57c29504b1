#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace tandem {

// What a step's time is spent on, in the order of `operatorClasses` in engine/device/device.ts.
enum class OperatorClass : std::uint8_t {
  matmul,
  prefillAttention,  // of entries with several new tokens
  decodeAttention,   // of entries with one
  other,             // embedding, norms, appending to the KV, sampling, log probabilities
};
inline constexpr std::size_t kOperatorClasses = 4;

using OpSeconds = std::array<double, kOperatorClasses>;

// Divides the time since `start` among the classes: each lap goes to the class of the op that ends it, with
// what was prepared for it, so nothing is lost between ops and an op costs one look at the clock. It sees the
// work of ops that return when they are done; a backend that enqueues must record its own events.
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

  OpSeconds seconds() const {
    OpSeconds seconds;
    for (std::size_t i = 0; i < kOperatorClasses; ++i) {
      seconds[i] = std::chrono::duration<double>(spent_[i]).count();
    }
    return seconds;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::array<Clock::duration, kOperatorClasses> spent_{};
  Clock::time_point last_;
};

}  // namespace tandem
