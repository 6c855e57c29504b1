// Sequences in partitions on the backend and on the processor: what is old is packed, what is oldest dropped,
// and rows go on seeing the sink, the best of mid and what is recent.

#include <algorithm>
#include <string>
#include <vector>

#include "backend-device.h"
#include "check.h"
#include "cpu/cpu-backend.h"
#include "median.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr std::int64_t kPrompt = 6 * kPageTokens, kEnd = kPrompt + 16;

DeviceOptions packing(const TinyModel& model, bool afterDrop = false) {
  DeviceOptions options = optionsFor(model);
  options.selection = PageSelection{1, 2, afterDrop};
  options.maxSequenceTokens = 512;
  return options;
}

std::vector<std::int32_t> partOf(const std::vector<std::int32_t>& tokens, std::int64_t begin,
                                 std::int64_t end) {
  return {tokens.begin() + begin, tokens.begin() + end};
}

void packPages(Device& device, int slot, std::int64_t begin, std::int64_t end) {
  const auto pages = static_cast<std::size_t>((end - begin) * device.spec().layers);
  isTrue(test::convert(device, slot, begin, end, std::vector(pages, PrecisionClass::int4)), "room");
}

// A prompt of six pages of which four are packed; of these one is dropped when half of the rest is read.
void readPrompt(Device& device, int slot, const std::vector<std::int32_t>& tokens) {
  openSlot(device, slot, kEnd);
  append(device, slot, partOf(tokens, 0, kPrompt), 100);
  packPages(device, slot, 1, 5);
}

std::vector<float> logitsBehind(Device& device, int slot, const std::vector<std::int32_t>& tokens,
                                std::size_t chunk) {
  readPrompt(device, slot, tokens);
  append(device, slot, partOf(tokens, kPrompt, kPrompt + 8), chunk);
  device.drop(slot, 1, 2);
  return append(device, slot, partOf(tokens, kPrompt + 8, kEnd), chunk);
}

}  // namespace

// Where two pages promise almost the same, another rounding of a product sees the other one, and goes on from
// there: that happens to one model in ten, and not to most.
TEST("cuda pack: a sequence that is packed and in part dropped goes on near the processor's") {
  const std::vector<std::int32_t> tokens = prompt(kEnd, 37);
  for (const Family& family : {families()[0], families()[2]}) {
    std::vector<double> apart, unlikeWhole;
    for (const int seed : {51, 52, 53}) {
      const TinyModel model(family.spec, seed);
      Device device(cuda::makeCudaBackend({}), packing(model)), processor(makeCpuBackend(1), packing(model)),
          whole(makeCpuBackend(1), optionsFor(model));
      const std::vector<float> logits = logitsBehind(device, 0, tokens, 12);
      apart.push_back(relativeError(logits, logitsBehind(processor, 0, tokens, 12)));
      unlikeWhole.push_back(relativeError(logits, logitsOf(whole, tokens, 100)));
      test::equal(device.kv().heldBytes(), processor.kv().heldBytes(), "bytes");
    }
    const double usual = median(apart);
    isTrue(usual < 0.03, std::string(family.name) + ": apart from the CPU by " + std::to_string(usual));
    isTrue(median(unlikeWhole) > 2 * usual, "what is not seen matters more");
  }
}

TEST("cuda pack: what follows is the same bits in any chunks, alone and in a crowd") {
  const std::vector<std::int32_t> tokens = prompt(kEnd, 41), other = prompt(70, 29);
  const TinyModel model(llama(), 52);
  Device device(cuda::makeCudaBackend({}), packing(model));
  const std::vector<float> expected = logitsBehind(device, 0, tokens, 8);
  device.closeSlot(0);
  expectSame(logitsBehind(device, 0, tokens, 1), expected, "token by token");
  device.closeSlot(0);

  // Beside a prompt and a token of sequences that are seen whole, and the last token of one like it.
  openSlot(device, 1, 80);
  openSlot(device, 2, 80);
  append(device, 2, other, 128);
  for (const int slot : {0, 3}) {
    readPrompt(device, slot, tokens);
    append(device, slot, partOf(tokens, kPrompt, kPrompt + 8), 8);
    device.drop(slot, 1, 2);
  }
  append(device, 3, partOf(tokens, kPrompt + 8, kEnd - 1), 7);
  std::vector<std::int32_t> all{5, tokens.back()};
  all.insert(all.end(), other.begin(), other.end());
  all.insert(all.end(), tokens.begin() + kPrompt + 8, tokens.end());
  const StepResult result = run(device, 0,
                                {{2, 3, 1, 0},
                                 {1, 1, 70, static_cast<std::int32_t>(kEnd - kPrompt - 8)},
                                 all,
                                 {kWantLogits, kWantLogits, kWantLogits, kWantLogits}});
  expectSame(result.entries[1].logits, expected, "the last token, in a crowd");
  expectSame(result.entries[3].logits, expected, "the last tokens, in a crowd");
  for (int slot = 0; slot < 4; ++slot) device.closeSlot(slot);
  expectSame(result.entries[2].logits, logitsOf(device, other), "a sequence beside it that is seen whole");
}

TEST("cuda pack: where only sequences with dropped tokens are selected from, others are seen whole") {
  const std::vector<std::int32_t> tokens = prompt(kPrompt + 4, 43);
  const TinyModel model(llama(), 53);
  Device pressed(cuda::makeCudaBackend({}), packing(model, true)),
      whole(cuda::makeCudaBackend({}), optionsFor(model));
  std::vector<float> expected;
  for (Device* device : {&whole, &pressed}) {
    readPrompt(*device, 0, tokens);
    const std::vector<float> logits = append(*device, 0, partOf(tokens, kPrompt, kPrompt + 4), 4);
    if (device == &whole) expected = logits;
    expectSame(logits, expected, "nothing was dropped");
  }
}
