#pragma once

// Sequences that go on in steps which wait for one another, as the engine has a device run them, and in steps
// that are waited for.

#include <deque>
#include <future>
#include <utility>
#include <vector>

#include "check.h"
#include "device-case.h"
#include "model/device.h"

namespace tandem::test {

inline Step decodeStep(const std::vector<std::int32_t>& slots) {
  return {slots,
          std::vector<std::int32_t>(slots.size()),
          {},
          std::vector<std::uint8_t>(slots.size(), kWantSample)};
}

inline std::vector<std::int32_t> tokensOf(const StepResult& result) {
  std::vector<std::int32_t> tokens;
  for (const EntryResult& entry : result.entries) tokens.push_back(entry.token);
  return tokens;
}

inline void reserveNext(Device& device, const std::vector<std::int32_t>& slots) {
  for (const std::int32_t slot : slots) {
    isTrue(device.kv().reserve(slot, device.kv().plannedLength(slot) + 1), "there is room for a token");
  }
}

// Tokens [steps][slots], on the decode lane. Each step but the first is handed over while the one before it
// is not known to be done, if `ahead`.
inline std::vector<std::vector<std::int32_t>> decodeAll(Device& device,
                                                        const std::vector<std::int32_t>& slots, int steps,
                                                        bool ahead) {
  device.partition(0);
  std::deque<std::future<StepResult>> running;
  std::vector<std::vector<std::int32_t>> tokens;
  for (int step = 0; step < steps;) {
    const bool follows = !running.empty();
    reserveNext(device, slots);
    auto [done, result] = promised();
    if (follows) {
      device.follow(1, slots, std::move(done));
    } else {
      device.run(1, decodeStep(slots), std::move(done));
    }
    running.push_back(std::move(result));
    ++step;
    while (!running.empty() && (running.size() > (ahead ? 1u : 0u) || step == steps)) {
      tokens.push_back(tokensOf(running.front().get()));
      running.pop_front();
    }
  }
  return tokens;
}

// Opens the slots 0, 1, ... with options and prompts of these lengths, and samples each one's first token.
inline std::vector<std::int32_t> openSlots(Device& device, const std::vector<std::int32_t>& lengths,
                                           const SlotOptions& options) {
  std::vector<std::int32_t> slots;
  device.partition(device.backend().units());
  for (const std::int32_t length : lengths) {
    const auto slot = static_cast<std::int32_t>(slots.size());
    device.openSlot(slot, options);
    isTrue(device.kv().reserve(slot, length), "there is room for a prompt");
    std::vector<std::int32_t> prompt;
    for (int i = 0; i < length; ++i) prompt.push_back(i * (31 + slot) % device.spec().vocab);
    auto [done, result] = promised();
    device.run(0, {{slot}, {length}, std::move(prompt), {kWantSample}}, std::move(done));
    result.get();
    slots.push_back(slot);
  }
  return slots;
}

// Sequences have the same tokens in steps that follow one another, across the ends of their pages, and leave
// nothing behind.
inline void checkFollowing(Device& device) {
  const std::int64_t free = device.kv().freeBlocks();
  SlotOptions options;
  options.params.temperature = 1;
  options.params.seed = 5;
  options.params.frequencyPenalty = 0.5f;
  std::vector<std::vector<std::vector<std::int32_t>>> found;
  for (const bool ahead : {false, true}) {
    const std::vector<std::int32_t> slots = openSlots(device, {30, 9, 64}, options);
    found.push_back(decodeAll(device, slots, 40, ahead));
    for (const std::int32_t slot : slots) device.closeSlot(slot);
    equal(device.kv().freeBlocks(), free, "free blocks at the end");
  }
  isTrue(found[0] == found[1], "the same tokens, waited for or not");
}

}  // namespace tandem::test
