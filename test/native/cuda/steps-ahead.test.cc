// Steps that are enqueued while the one before them runs: tokens go from one to the other on the device.
// Where it is emulated, a busy device makes sure that each step finds the one before it at work.

#include <cmath>
#include <deque>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend-device.h"
#include "check.h"
#include "core/error.h"
#include "following-steps.h"

#ifdef TANDEM_CUDA_EMULATION
#include "cuda-emulated-runtime.h"
#endif

using namespace tandem;
using namespace tandem::test;

namespace {

std::future<StepResult> follow(Device& device, int lane, const std::vector<std::int32_t>& slots) {
  reserveNext(device, slots);
  auto [done, result] = promised();
  device.follow(lane, slots, std::move(done));
  return std::move(result);
}

void partitionFor(Device& device, int lane) { device.partition(lane == 0 ? device.backend().units() : 0); }

std::future<StepResult> begin(Device& device, int lane, const std::vector<std::int32_t>& slots) {
  reserveNext(device, slots);
  partitionFor(device, lane);
  return start(device, lane, decodeStep(slots));
}

std::vector<StepResult> decodeWaiting(Device& device, int lane, const std::vector<std::int32_t>& slots,
                                      int steps) {
  std::vector<StepResult> results;
  for (int step = 0; step < steps; ++step) results.push_back(begin(device, lane, slots).get());
  return results;
}

std::vector<StepResult> decodeAhead(Device& device, int lane, const std::vector<std::int32_t>& slots,
                                    int steps) {
#ifdef TANDEM_CUDA_EMULATION
  emulation::BusyDevice busy;
#endif
  std::vector<StepResult> results;
  std::future<StepResult> running = begin(device, lane, slots);
  for (int step = 1; step < steps; ++step) {
    std::future<StepResult> next = follow(device, lane, slots);
#ifdef TANDEM_CUDA_EMULATION
    busy.awaitLaunches("carryTokens", step);
    busy.doStep();
#endif
    results.push_back(running.get());
    running = std::move(next);
  }
#ifdef TANDEM_CUDA_EMULATION
  busy.doStep();
#endif
  results.push_back(running.get());
  return results;
}

// Tokens and log probabilities of a slot's life, told apart by a prompt's length.
struct PlannedSequence {
  std::int32_t promptTokens;
  SlotOptions options;
};

std::vector<PlannedSequence> sequences() {
  PlannedSequence drawn{30, {}}, penalized{9, {}}, late{64, {}};
  drawn.options.params.temperature = 1;
  drawn.options.params.seed = 5;
  drawn.options.params.frequencyPenalty = 0.7f;
  drawn.options.params.presencePenalty = 0.2f;
  penalized.options.params.repetitionPenalty = 1.5f;
  penalized.options.params.logprobs = 2;
  penalized.options.params.bias = {{7, 0.5f}, {8, -0.5f}};
  penalized.options.promptTokens = {1, 2, 3};
  late.options.params.temperature = 2;
  late.options.params.topK = 40;
  late.options.params.seed = 9;
  late.options.minTokens = 4;
  for (std::int32_t token = 0; token < 45; ++token) late.options.suppressedBelowMin.push_back(token);
  return {drawn, penalized, late};
}

// All have read their prompts and drawn a token, on this lane.
std::vector<std::int32_t> openAll(Device& device, int lane, const std::vector<PlannedSequence>& all) {
  std::vector<std::int32_t> slots;
  partitionFor(device, lane);
  for (const PlannedSequence& sequence : all) {
    const auto slot = static_cast<std::int32_t>(slots.size());
    openSlot(device, slot, sequence.promptTokens, sequence.options);
    start(device, lane,
          {{slot}, {sequence.promptTokens}, prompt(sequence.promptTokens, 31 + slot), {kWantSample}})
        .get();
    slots.push_back(slot);
  }
  return slots;
}

void closeAll(Device& device, const std::vector<std::int32_t>& slots) {
  for (const std::int32_t slot : slots) device.closeSlot(slot);
}

void expectSameSteps(const std::vector<StepResult>& actual, const std::vector<StepResult>& expected) {
  test::equal(actual.size(), expected.size(), "steps");
  for (std::size_t step = 0; step < expected.size(); ++step) {
    for (std::size_t i = 0; i < expected[step].entries.size(); ++i) {
      const EntryResult &a = actual[step].entries[i], &b = expected[step].entries[i];
      const std::string what = "step " + std::to_string(step) + ", entry " + std::to_string(i);
      test::equal(a.token, b.token, what);
      isTrue(a.logprob == b.logprob || (std::isnan(a.logprob) && std::isnan(b.logprob)),
             what + ": log probability");
      isTrue(a.topTokens == b.topTokens && a.topLogprobs == b.topLogprobs, what + ": most likely tokens");
    }
  }
}

}  // namespace

TEST("cuda steps ahead: tokens and log probabilities are those of steps that are waited for, in both lanes") {
  const TinyModel model(llama(), 41);
  const auto device = open(model, WeightClass::int8);
  const std::int64_t free = device->kv().freeBlocks();
  for (const int lane : {0, 1}) {
    std::vector<std::int32_t> slots = openAll(*device, lane, sequences());
    const std::vector<StepResult> expected = decodeWaiting(*device, lane, slots, 6);
    closeAll(*device, slots);
    openAll(*device, lane, sequences());
    const std::vector<StepResult> ahead = decodeAhead(*device, lane, slots, 6);
    closeAll(*device, slots);
    expectSameSteps(ahead, expected);
    for (int step = 0; step < 3; ++step) {
      isTrue(ahead[step].entries[2].token >= 45, "nothing suppressed below the least count of tokens");
    }
    isTrue(std::ranges::any_of(ahead, [](const StepResult& step) { return step.entries[2].token < 45; }),
           "afterwards all may come");
  }
  test::equal(device->kv().freeBlocks(), free, "free blocks at the end");
}

TEST("cuda steps ahead: tokens are those of steps that are waited for on int8 pages and behind a window") {
  const TinyModel model(families()[3].spec, 42);
  const auto device = open(model, WeightClass::bf16, PrecisionClass::int8);
  const std::vector<std::int32_t> slots = openAll(*device, 1, sequences());
  const std::vector<StepResult> expected = decodeWaiting(*device, 1, slots, 6);
  closeAll(*device, slots);
  openAll(*device, 1, sequences());
  expectSameSteps(decodeAhead(*device, 1, slots, 6), expected);
}

#ifdef TANDEM_CUDA_EMULATION

TEST("cuda steps ahead: a step is behind the running one on the device at once, and is not taken back then") {
  const TinyModel model(llama(), 43);
  const auto device = open(model);
  const std::vector<std::int32_t> slots = openAll(*device, 1, sequences());
  const std::vector<StepResult> expected = decodeWaiting(*device, 1, slots, 3);
  closeAll(*device, slots);
  openAll(*device, 1, sequences());
  std::future<StepResult> results[3];
  {
    emulation::BusyDevice busy;
    results[0] = begin(*device, 1, slots);
    results[1] = follow(*device, 1, slots);
    busy.awaitLaunches("carryTokens");
    isTrue(!device->withdraw(1), "it has begun");
    throws([&] { device->follow(1, slots, promised().first); }, "waits already");
    busy.doStep();
    isTrue(tokensOf(results[0].get()) == tokensOf(expected[0]), "tokens of the first");
    // Nobody wants the second sequence any more: its pages stay until the step that writes them is done.
    throws([&] { device->closeSlot(1); }, "is in a running step");
    results[2] = follow(*device, 1, {0, 2});
  }
  isTrue(tokensOf(results[1].get()) == tokensOf(expected[1]), "tokens of the second");
  const StepResult last = results[2].get();
  test::equal(last.entries[0].token, expected[2].entries[0].token, "the first sequence goes on");
  test::equal(last.entries[1].token, expected[2].entries[2].token, "the third sequence goes on");
  test::equal(device->kv().length(1), std::int64_t{11}, "tokens of the second sequence");
  closeAll(*device, slots);
}

TEST("cuda steps ahead: a step with a grammar, whose mask the token decides, waits for the one before it") {
  const TinyModel model(llama(), 46);
  const auto device = open(model);
  std::vector<PlannedSequence> all = sequences();
  all[0].options.grammar = lettersInTurn(*device);
  const std::vector<std::int32_t> slots = openAll(*device, 1, all);
  const std::vector<StepResult> expected = decodeWaiting(*device, 1, slots, 2);
  closeAll(*device, slots);
  openAll(*device, 1, all);
  std::future<StepResult> results[2];
  {
    emulation::BusyDevice busy;
    results[0] = begin(*device, 1, slots);
    results[1] = follow(*device, 1, slots);
    busy.awaitLaunches("adjustLogits");
    isTrue(device->withdraw(1), "it has not begun");
    results[1] = follow(*device, 1, slots);
    busy.doStep();
    busy.awaitLaunches("adjustLogits", 2);
    test::equal(busy.launchesOf("carryTokens"), 0, "steps that are given their tokens on the device");
  }
  for (int step = 0; step < 2; ++step) {
    isTrue(tokensOf(results[step].get()) == tokensOf(expected[step]), "tokens of a step");
  }
  closeAll(*device, slots);
}

TEST("cuda steps ahead: where a step fails, so does the one behind it, and both leave all as it was") {
  const TinyModel model(llama(), 44);
  const auto device = open(model);
  const std::vector<std::int32_t> slots = openAll(*device, 1, sequences());
  const std::vector<StepResult> expected = decodeWaiting(*device, 1, slots, 4);
  closeAll(*device, slots);
  openAll(*device, 1, sequences());
  SlotOptions speechless;
  speechless.minTokens = 1;
  for (std::int32_t token = 0; token < 90; ++token) speechless.suppressedBelowMin.push_back(token);
  openSlot(*device, 3, 2, speechless);
  std::future<StepResult> results[2];
  {
    emulation::BusyDevice busy;
    reserveNext(*device, slots);
    partitionFor(*device, 1);
    results[0] = start(*device, 1, {{0, 1, 2, 3}, {0, 0, 0, 2}, {3, 4}, std::vector(4, std::uint8_t{1})});
    results[1] = follow(*device, 1, {0, 1, 2, 3});
    busy.awaitLaunches("carryTokens");
  }
  throws([&] { results[0].get(); }, "no token may be drawn");
  throws([&] { results[1].get(); }, "has failed");
  device->closeSlot(3);
  test::equal(device->kv().length(0), std::int64_t{30}, "tokens of a sequence whose steps failed");
  expectSameSteps(decodeAhead(*device, 1, slots, 4), expected);
}

TEST("cuda steps ahead: a lost device fails all steps that are under way, and holds nobody") {
  const TinyModel model(llama(), 45);
  auto device = open(model);
  const std::vector<std::int32_t> slots = openAll(*device, 1, sequences());
  std::future<StepResult> results[2];
  std::optional<emulation::LostDevice> lost;
  {
    emulation::BusyDevice busy;
    results[0] = begin(*device, 1, slots);
    results[1] = follow(*device, 1, slots);
    busy.awaitLaunches("carryTokens");
    lost.emplace();
    for (auto& result : results) throws([&] { result.get(); }, "the CUDA device is lost");
  }
  device.reset();
}

#endif
