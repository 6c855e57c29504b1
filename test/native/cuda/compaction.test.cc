// Pages that lie scattered on the device are moved together while other things are under way: what goes on
// from them has the same bits as if nothing had been moved.

#include <future>
#include <string>
#include <utility>
#include <vector>

#include "backend-device.h"
#include "check.h"

#ifdef TANDEM_CUDA_EMULATION
#include "cuda-emulated-runtime.h"
#endif

using namespace tandem;
using namespace tandem::test;

namespace {

// Slots of the history below. From `kLeaving` on most end early, and leave holes between the pages of the
// others, among which are the one that is forked and the one of which a block is published.
enum : int {
  kRunning,
  kConverting,
  kSwapping,
  kFork,
  kReturned,
  kLeaving,
  kForked = 28,
  kShared = 20,
  kSlots = 30
};

bool stays(int slot) { return slot < kLeaving || slot % 8 == 4; }

constexpr int kRead = 70, kAll = 90;
// Full ones of those that were read.
constexpr std::int64_t kBlocks = kRead / kPageTokens;

std::vector<std::int32_t> tokensOf(int slot) { return prompt(kAll, 2 * slot + 7); }

std::vector<std::int32_t> partOf(int slot, int begin, int end) {
  const std::vector<std::int32_t> tokens = tokensOf(slot);
  return {tokens.begin() + begin, tokens.begin() + end};
}

DeviceOptions optionsOf(const TinyModel& model) {
  DeviceOptions options = optionsFor(model);
  options.slots = kSlots;
  return options;
}

std::vector<PrecisionClass> allOf(PrecisionClass precision, std::int64_t pages) {
  return std::vector<PrecisionClass>(static_cast<std::size_t>(pages), precision);
}

// Where a slot's pages lie, layer by layer.
std::vector<std::byte*> placesOf(Device& device, int slot) {
  std::vector<std::byte*> places;
  for (int layer = 0; layer < device.spec().layers; ++layer) {
    const auto pages = device.kv().pagesOf(slot, layer);
    places.insert(places.end(), pages.begin(), pages.end());
  }
  return places;
}

std::vector<float> goOn(Device& device, int slot, int sequence) {
  isTrue(device.kv().reserve(slot, kAll), "there is room for the rest of " + std::to_string(slot));
  return append(device, slot, partOf(sequence, kRead, kAll), 11);
}

// A step of one sequence, a conversion of a second one and the swap of a third are under way while what ended
// sequences have left between their pages, and those of a fork, is closed up, or not. Then all go on. Returns
// the logits behind the last token of each.
std::vector<std::vector<float>> logitsAfter(const TinyModel& model, bool isCompacted) {
  Device device(cuda::makeCudaBackend({}), optionsOf(model));
  KvCache& kv = device.kv();
  const std::int64_t layers = device.spec().layers;
  // Sequences that stay among many that leave: pages are given out in turn.
  for (int slot = 0; slot < kSlots; ++slot) {
    if (slot == kFork || slot == kReturned) continue;
    openSlot(device, slot, kRead);
    append(device, slot, partOf(slot, 0, kRead), 128);
    isTrue(test::convert(device, slot, 0, kBlocks, allOf(PrecisionClass::int8, kBlocks * layers)), "room");
  }
  device.openSlot(kFork, {});
  isTrue(kv.fork(kForked, kFork, kRead), "a fork fits");
  const std::int32_t published = kv.publish(kShared, 0);
  for (int slot = kLeaving; slot < kSlots; ++slot) {
    if (!stays(slot)) device.closeSlot(slot);
  }

  std::future<StepResult> step;
  std::promise<void> converted, swapped;
  SwapId swap = -1;
  {
#ifdef TANDEM_CUDA_EMULATION
    // Nothing of this is done before pages have been moved.
    emulation::BusyDevice busy;
#endif
    isTrue(kv.reserve(kRunning, kRead + 1), "room for a token");
    device.partition(0);
    step = start(device, 1, {{kRunning}, {1}, partOf(kRunning, kRead, kRead + 1), {kWantLogits}});
    isTrue(device.convert(kConverting, 0, kBlocks, allOf(PrecisionClass::int4, kBlocks * layers),
                          [&] { converted.set_value(); }),
           "room for both forms");
    swap = device.swapOut(kSwapping, [&] { swapped.set_value(); });
    if (isCompacted) {
      const auto running = placesOf(device, kRunning), converting = placesOf(device, kConverting),
                 swapping = placesOf(device, kSwapping), forked = placesOf(device, kForked);
      const std::int64_t before = kv.freeBlocks();
      while (kv.compact(1)) {
      }
      isTrue(kv.freeBlocks() >= before + 2 * kv.chunkBlocks(), "chunks come free");
      const auto moved = placesOf(device, kForked);
      isTrue(moved[0] != forked[0], "a page that two have was moved");
      isTrue(kv.pagesOf(kFork, 0)[0] == moved[0], "for both");
      isTrue(placesOf(device, kRunning) == running && placesOf(device, kConverting) == converting &&
                 placesOf(device, kSwapping) == swapping,
             "those that are read meanwhile lie where they lay");
    }
    // What came free is written to at once.
    openSlot(device, kReturned, kRead);
  }
  step.get();
  converted.get_future().get();
  device.finishConversion(kConverting);
  swapped.get_future().get();
  device.finishSwap(kSwapping);
  device.closeSlot(kSwapping);

  append(device, kReturned, prompt(kRead, 3), 128);
  device.closeSlot(kReturned);
  device.openSlot(kReturned, {});
  std::promise<void> returned;
  isTrue(device.swapIn(kReturned, swap, [&] { returned.set_value(); }), "room to come back");
  returned.get_future().get();
  device.finishSwap(kReturned);

  std::vector<std::vector<float>> logits;
  isTrue(kv.reserve(kRunning, kAll), "room");
  logits.push_back(append(device, kRunning, partOf(kRunning, kRead + 1, kAll), 11));
  logits.push_back(goOn(device, kForked, kForked));
  logits.push_back(goOn(device, kFork, kShared));  // each with tokens of its own
  logits.push_back(goOn(device, kConverting, kConverting));
  logits.push_back(goOn(device, kReturned, kSwapping));
  logits.push_back(goOn(device, kShared, kShared));
  for (int slot = kLeaving; slot < kSlots; ++slot) {
    if (stays(slot) && slot != kForked && slot != kShared) logits.push_back(goOn(device, slot, slot));
  }
  device.closeSlot(kShared);
  device.openSlot(kShared, {});
  kv.attach(kShared, {&published, 1});
  isTrue(kv.reserve(kShared, kAll), "room");
  logits.push_back(append(device, kShared, partOf(kShared, kPageTokens, kAll), 128));
  return logits;
}

}  // namespace

TEST(
    "cuda compaction: sequences go on with the same bits on pages that were moved while others are at work") {
  const TinyModel model(llama(), 41);
  const auto expected = logitsAfter(model, false), logits = logitsAfter(model, true);
  test::equal(logits.size(), expected.size(), "sequences");
  for (std::size_t i = 0; i < logits.size(); ++i) {
    expectSame(logits[i], expected[i], "sequence " + std::to_string(i));
  }
}
