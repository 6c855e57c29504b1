#pragma once

#include <cstdint>
#include <vector>

#include "core/operator-class.h"

namespace tandem {

// A step's plan and result, as engine/device/device.ts describes them.

enum Want : std::uint8_t { kWantSample = 1, kWantPromptLogprobs = 2, kWantLogits = 4 };

// Rows [row, row + count) of an entry whose attention is to be looked at; see Ops::probe.
struct ProbeRun {
  std::int32_t entry;
  std::int32_t row;
  std::int32_t count;
};

struct Step {
  std::vector<std::int32_t> slots;
  std::vector<std::int32_t> counts;  // 0: one, the slot's last sampled token
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> wants;
  std::vector<ProbeRun> probes = {};
};

struct PromptLogprobs {
  int k = 0;
  std::vector<float> logprobs;           // [count]; NaN for a sequence's first token
  std::vector<std::int32_t> nextTokens;  // [count, k]
  std::vector<float> nextLogprobs;       // [count, k]
};

struct EntryResult {
  std::int32_t token = -1;
  float logprob = 0;  // NaN where none is wanted
  std::vector<std::int32_t> topTokens;
  std::vector<float> topLogprobs;
  PromptLogprobs prompt;      // empty unless wanted
  std::vector<float> logits;  // [vocab], empty unless wanted
};

struct StepResult {
  std::vector<EntryResult> entries;
  std::vector<std::vector<std::uint32_t>> saliency;  // of each probe run: [layers, pages its last row sees]
  StepSeconds seconds;
};

}  // namespace tandem
