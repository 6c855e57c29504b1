#include <future>
#include <memory>
#include <utility>

#include "check.h"
#include "device-case.h"
#include "following-steps.h"

using namespace tandem;
using namespace tandem::test;

TEST("device: steps that follow one another have the tokens of steps that are waited for") {
  const TinyModel model(unevenLlama(), 23);
  for (const PrecisionClass kv : {PrecisionClass::bf16, PrecisionClass::int8}) {
    checkFollowing(*open(model, WeightClass::int8, availableIsas().front(), kv));
  }
}

namespace {

// A decode step that has ended, though its lane goes on to the next one only after `letGo`.
class HeldStep {
 public:
  HeldStep(Device& device, Step step) {
    device.partition(0);
    device.run(1, std::move(step), [state = state_](StepResult, std::exception_ptr error) {
      state->ended.set_value(error != nullptr);
      state->letGo.get_future().get();
    });
  }
  ~HeldStep() { letGo(); }
  bool fails() { return state_->ended.get_future().get(); }
  void letGo() {
    if (!std::exchange(isLetGo_, true)) state_->letGo.set_value();
  }

 private:
  struct State {
    std::promise<bool> ended;
    std::promise<void> letGo;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
  bool isLetGo_ = false;
};

}  // namespace

TEST("device: a step that waits for another can be taken back until it begins, and its room stays") {
  const TinyModel model(unevenLlama(), 24);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  const std::int64_t free = device->kv().freeBlocks();
  const std::vector<std::int32_t> slots = openSlots(*device, {31}, {});
  isTrue(!device->withdraw(1), "nothing waits");
  reserveNext(*device, slots);
  HeldStep held(*device, decodeStep(slots));
  reserveNext(*device, slots);
  isTrue(!held.fails(), "a step that is well-formed");
  for (int turn = 0; turn < 2; ++turn) {
    device->follow(1, slots, promised().first);
    isTrue(device->withdraw(1), "it waited");
    isTrue(!device->withdraw(1), "nothing waits any more");
  }
  // The step before is done, so one is as good as running, and one waits for that.
  auto [done, result] = promised();
  device->follow(1, slots, std::move(done));
  reserveNext(*device, slots);
  device->follow(1, slots, promised().first);
  throws([&] { device->follow(1, slots, promised().first); }, "waits already");
  isTrue(device->withdraw(1), "the last one waited");
  held.letGo();
  result.get();
  isTrue(!device->withdraw(1), "the other one has begun");
  equal(device->kv().length(0), std::int64_t{33}, "tokens after two steps");
  device->closeSlot(0);
  equal(device->kv().freeBlocks(), free, "free blocks at the end");
}

TEST("device: a step whose forerunner fails does so too, and leaves the lengths as they were") {
  const TinyModel model(unevenLlama(), 25);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  const std::vector<std::int32_t> slots = openSlots(*device, {7}, {});
  const std::vector<std::vector<std::int32_t>> expected = decodeAll(*device, slots, 3, false);
  device->closeSlot(0);
  openSlots(*device, {7}, {});
  SlotOptions broken;
  broken.params.bias = {{1000, 1.0f}};
  device->openSlot(1, broken);
  device->kv().reserve(1, 2);
  reserveNext(*device, slots);
  HeldStep held(*device, {{0, 1}, {0, 2}, {3, 3}, {kWantSample, kWantSample}});
  reserveNext(*device, slots);
  auto [done, result] = promised();
  device->follow(1, slots, std::move(done));
  isTrue(held.fails(), "a bias on a token that there is not");
  held.letGo();
  throws([&result = result] { result.get(); }, "was to follow has failed");
  equal(device->kv().length(0), std::int64_t{7}, "tokens of a slot whose steps failed");
  throws([&] { device->follow(1, {1}, promised().first); }, "no sampled token");
  isTrue(decodeAll(*device, slots, 3, true) == expected, "it goes on as if nothing had happened");

  reserveNext(*device, slots);
  HeldStep other(*device, decodeStep(slots));
  isTrue(!other.fails(), "a step that is well-formed");
  // The lane is held, so this one waits, and its slot is in a step for certain.
  reserveNext(*device, slots);
  auto [waitingDone, waiting] = promised();
  device->follow(1, slots, std::move(waitingDone));
  throws([&] { device->follow(0, slots, promised().first); }, "on this lane");
  other.letGo();
  waiting.get();
}
