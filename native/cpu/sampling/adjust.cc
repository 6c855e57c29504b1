#include "cpu/sampling/adjust.h"

#include <limits>
#include <string>

#include "core/error.h"

namespace tandem::cpu {
namespace {

float& at(std::span<float> logits, std::int32_t token, const char* what) {
  if (token < 0 || static_cast<std::size_t>(token) >= logits.size()) {
    throw Error("token " + std::to_string(token) + " of the " + what + " is outside the vocabulary of " +
                std::to_string(logits.size()));
  }
  return logits[token];
}

}  // namespace

void adjustLogits(std::span<float> logits, const SampleRequest& request) {
  const SampleParams& params = *request.params;
  for (const TokenCount& seen : request.seen) {
    float& logit = at(logits, seen.token, "penalties");
    // Hugging Face: the penalty pulls a logit towards minus infinity on either side of zero.
    logit = logit > 0 ? logit / params.repetitionPenalty : logit * params.repetitionPenalty;
    if (seen.inOutput > 0) {
      logit -= params.frequencyPenalty * static_cast<float>(seen.inOutput) + params.presencePenalty;
    }
  }
  for (const auto& [token, value] : params.bias) at(logits, token, "logit bias") += value;
  for (const std::int32_t token : request.suppressed) {
    at(logits, token, "suppressed tokens") = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace tandem::cpu
