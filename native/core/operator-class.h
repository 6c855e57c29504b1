#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

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

struct StepSeconds {
  double total = 0;
  std::optional<OpSeconds> byClass;  // of the same sum; where it was measured
};

}  // namespace tandem
