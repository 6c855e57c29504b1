// What zip does to a sequence, on the backend and on the processor: probes say which pages matter, pages are
// written again in fewer bits or given up, and the sequence goes on; and prompts that do not look everywhere.

#include <algorithm>
#include <string>
#include <vector>

#include "backend-device.h"
#include "check.h"
#include "cpu/cpu-backend.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr std::int64_t kZipPrompt = 200, kZipProbes = 32;

std::vector<std::int32_t> promptPart(const std::vector<std::int32_t>& tokens, std::int64_t begin,
                                     std::int64_t end) {
  return {tokens.begin() + begin, tokens.begin() + end};
}

// Reads the tokens [begin, end) in chunks whose rows from `firstProbe` on are probes. Returns their sums
// [layers, pages up to `end`].
std::vector<std::uint32_t> read(Device& device, int slot, const std::vector<std::int32_t>& tokens,
                                std::int64_t begin, std::int64_t end, std::int64_t chunk,
                                std::int64_t firstProbe) {
  const auto layers = static_cast<std::size_t>(device.spec().layers);
  const auto pages = static_cast<std::size_t>((end + kPageTokens - 1) / kPageTokens);
  std::vector<std::uint32_t> sums(layers * pages);
  for (std::int64_t at = begin; at < end; at += chunk) {
    const std::int64_t next = std::min(end, at + chunk), row = std::max<std::int64_t>(0, firstProbe - at);
    Step step{{slot}, {static_cast<std::int32_t>(next - at)}, promptPart(tokens, at, next), {0}};
    if (row < next - at) {
      step.probes = {{0, static_cast<std::int32_t>(row), static_cast<std::int32_t>(next - at - row)}};
    }
    const StepResult result = run(device, static_cast<int>(at / chunk % 2), step);
    equal(result.saliency.size(), step.probes.size(), "runs that were looked at");
    if (step.probes.empty()) continue;
    const std::vector<std::uint32_t>& found = result.saliency[0];
    const std::size_t width = found.size() / layers;
    for (std::size_t i = 0; i < found.size(); ++i) sums[i / width * pages + i % width] += found[i];
  }
  return sums;
}

// Of the first `blocks` blocks, a class for each page: by what falls on it, layer by layer, the upper third
// int4, the next int2, and the others are given up.
std::vector<PrecisionClass> classesBy(const std::vector<std::uint32_t>& sums, std::size_t layers,
                                      std::size_t blocks) {
  const std::size_t pages = sums.size() / layers;
  std::vector<PrecisionClass> classes(blocks * layers);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t page = 0; page < blocks; ++page) {
      const auto ofLayer = sums.begin() + static_cast<std::ptrdiff_t>(layer * pages);
      const auto above = std::count_if(ofLayer, ofLayer + static_cast<std::ptrdiff_t>(blocks),
                                       [&](std::uint32_t sum) { return sum > ofLayer[page]; });
      const auto third = 3 * above / static_cast<std::ptrdiff_t>(blocks);
      classes[page * layers + layer] = third == 0   ? PrecisionClass::int4
                                       : third == 1 ? PrecisionClass::int2
                                                    : PrecisionClass::none;
    }
  }
  return classes;
}

Step sparseStep(const std::vector<std::int32_t>& tokens, std::int64_t begin, std::int64_t end,
                const std::vector<std::uint8_t>& isSeen) {
  Step step{{0}, {static_cast<std::int32_t>(end - begin)}, promptPart(tokens, begin, end), {kWantLogits}};
  step.sparse = {{0, static_cast<std::int32_t>(isSeen.size() / 2), isSeen}};
  return step;
}

// The logits behind rows that see some pages only, read in chunks.
std::vector<float> sparseLogits(Device& device, const std::vector<std::int32_t>& tokens,
                                const std::vector<std::uint8_t>& isSeen, std::int64_t chunk) {
  const auto end = static_cast<std::int64_t>(tokens.size());
  openSlot(device, 0, end);
  append(device, 0, promptPart(tokens, 0, kZipPrompt), 100);
  std::vector<float> logits;
  for (std::int64_t at = kZipPrompt; at < end; at += chunk) {
    logits = run(device, 0, sparseStep(tokens, at, std::min(end, at + chunk), isSeen)).entries[0].logits;
  }
  device.closeSlot(0);
  return logits;
}

}  // namespace

TEST("cuda zip: a sequence that is probed, packed and in part given up goes on near the processor's") {
  const std::vector<std::int32_t> tokens = prompt(kZipPrompt + 20, 37);
  const auto end = static_cast<std::int64_t>(tokens.size());
  for (const Family& family : {families()[0], families()[3]}) {
    const TinyModel model(family.spec, 31);
    const auto layers = static_cast<std::size_t>(family.spec.layers);
    const auto device = open(model);
    Device processor(makeCpuBackend(1), optionsFor(model));
    std::vector<PrecisionClass> classes;
    std::vector<float> expected, exact, logits;
    std::vector<std::uint32_t> expectedSums, sums;
    for (Device* each : {&processor, device.get()}) {
      openSlot(*each, 0, end);
      const auto found = read(*each, 0, tokens, 0, kZipPrompt, 100, kZipPrompt - kZipProbes);
      if (each == &processor) {
        expectedSums = found;
        classes = classesBy(found, layers, 6);
        isTrue(std::ranges::count(classes, PrecisionClass::none) > 0, "some pages are given up");
        openSlot(*each, 1, end);
        exact = append(*each, 1, tokens, 100);
        each->closeSlot(1);
      } else {
        sums = found;
      }
      isTrue(test::convert(*each, 0, 0, 6, classes), "room");
      (each == &processor ? expected : logits) = append(*each, 0, promptPart(tokens, kZipPrompt, end), 11);
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const double part = static_cast<double>(expectedSums[i]) / kSaliencyUnits / kZipProbes;
      near(static_cast<double>(sums[i]) / kSaliencyUnits / kZipProbes, part, 0.03 * part + 1e-3,
           std::string(family.name) + ", what falls on page " + std::to_string(i));
    }
    const double apart = relativeError(logits, expected);
    isTrue(apart < 0.03, std::string(family.name) + ": apart from the CPU by " + std::to_string(apart));
    isTrue(relativeError(logits, exact) > 2 * apart, "what was done to the pages matters more");
    equal(device->kv().heldBytes(), processor.kv().heldBytes(), "bytes");
  }
}

TEST("cuda zip: sums and what follows are the same bits in any chunks, alone and in a crowd") {
  const std::vector<std::int32_t> tokens = prompt(kZipPrompt + 12, 41), other = prompt(70, 29);
  const auto end = static_cast<std::int64_t>(tokens.size());
  const TinyModel model(llama(), 32);
  const auto layers = static_cast<std::size_t>(model.spec().layers);
  const auto device = open(model);
  std::vector<std::uint32_t> expectedSums;
  std::vector<float> expected;
  for (const std::int64_t chunk : {100, 23, 1}) {
    openSlot(*device, 0, end);
    // Before the probes chunks are of no matter here.
    append(*device, 0, promptPart(tokens, 0, kZipPrompt - kZipProbes - 4), 128);
    const auto sums =
        read(*device, 0, tokens, kZipPrompt - kZipProbes - 4, kZipPrompt, chunk, kZipPrompt - kZipProbes);
    if (expectedSums.empty()) expectedSums = sums;
    isTrue(sums == expectedSums, "sums, in chunks of " + std::to_string(chunk));
    isTrue(test::convert(*device, 0, 0, 6, classesBy(sums, layers, 6)), "room");
    const std::vector<float> logits = append(*device, 0, promptPart(tokens, kZipPrompt, end),
                                             static_cast<std::size_t>(std::min<std::int64_t>(chunk, 12)));
    if (expected.empty()) expected = logits;
    expectSame(logits, expected, "logits, in chunks of " + std::to_string(chunk));
    device->closeSlot(0);
  }

  // Beside another sequence, whose rows are probed as well, and one with a single row; where sequences may
  // not be long there is little room for what probes find, and a tile comes after the other.
  DeviceOptions options = optionsFor(model);
  options.maxSequenceTokens = 256;
  Device narrow(cuda::makeCudaBackend({}), options);
  openSlot(narrow, 0, end);
  openSlot(narrow, 1, 80);
  openSlot(narrow, 2, 80);
  append(narrow, 0, promptPart(tokens, 0, kZipPrompt - kZipProbes), 128);
  append(narrow, 2, other, 128);
  std::vector<std::int32_t> all{5};
  all.insert(all.end(), other.begin(), other.end());
  all.insert(all.end(), tokens.begin() + kZipPrompt - kZipProbes, tokens.begin() + kZipPrompt);
  const StepResult result =
      run(narrow, 0,
          {{2, 1, 0},
           {1, 70, static_cast<std::int32_t>(kZipProbes)},
           all,
           {0, 0, 0},
           {{0, 0, 1}, {1, 3, 40}, {2, 0, static_cast<std::int32_t>(kZipProbes)}, {1, 60, 2}}});
  isTrue(result.saliency[2] == expectedSums, "sums in a crowd");
  for (const std::size_t index : {0, 3}) {
    double total = 0;
    for (const std::uint32_t sum : result.saliency[index]) total += sum;
    near(total / kSaliencyUnits / static_cast<double>(layers), index == 0 ? 1 : 2, 1e-4,
         "all of the rows' attention");
  }
  isTrue(test::convert(narrow, 0, 0, 6, classesBy(expectedSums, layers, 6)), "room");
  expectSame(append(narrow, 0, promptPart(tokens, kZipPrompt, end), 12), expected, "logits, read in a crowd");
}

TEST("cuda zip: rows that do not look everywhere are near the processor's, and the same bits in any chunks") {
  const std::vector<std::int32_t> tokens = prompt(kZipPrompt + 12, 43);
  // By layer and page of the first five.
  const std::vector<std::uint8_t> isSeen{1, 0, 0, 1, 0, 1, 1, 0, 0, 0}, everywhere(10, 1);
  for (const Family& family : {families()[0], families()[3]}) {
    const TinyModel model(family.spec, 33);
    const auto device = open(model);
    Device processor(makeCpuBackend(1), optionsFor(model));
    const std::vector<float> logits = sparseLogits(*device, tokens, isSeen, 12);
    const double apart = relativeError(logits, sparseLogits(processor, tokens, isSeen, 12));
    isTrue(apart < 0.03, std::string(family.name) + ": apart from the CPU by " + std::to_string(apart));
    const std::vector<float> dense = logitsOf(*device, tokens, 100);
    isTrue(relativeError(logits, dense) > 2 * apart, "what is not seen matters more");
    for (const std::int64_t chunk : {1, 7}) {
      expectSame(sparseLogits(*device, tokens, isSeen, chunk), logits,
                 "in chunks of " + std::to_string(chunk));
    }
    expectSame(sparseLogits(*device, tokens, everywhere, 12), dense, "seeing all is looking everywhere");
  }
}

TEST("cuda zip: a row that does not look everywhere leaves those beside it as they are") {
  const std::vector<std::int32_t> tokens = prompt(kZipPrompt + 12, 47);
  const std::vector<std::uint8_t> isSeen{1, 0, 0, 1, 0, 0, 1, 0, 0, 0};
  const TinyModel model(llama(), 34);
  const auto device = open(model);
  const std::vector<float> dense = logitsOf(*device, tokens, 100),
                           sparse = sparseLogits(*device, tokens, isSeen, 12);
  for (const int slot : {0, 1, 2, 3}) {
    openSlot(*device, slot, kZipPrompt + 12);
    append(*device, slot, promptPart(tokens, 0, slot == 3 ? kZipPrompt + 11 : kZipPrompt), 100);
  }
  // A sparse and a dense sequence whose rows come together, one of each with its last row alone.
  const auto readSparse = [&](int slot, std::int64_t count) {
    Step step = sparseStep(tokens, kZipPrompt, kZipPrompt + count, isSeen);
    step.slots = {slot};
    run(*device, 0, std::move(step));
  };
  readSparse(0, 1);
  readSparse(1, 11);
  std::vector<std::int32_t> all{tokens.back()};
  all.insert(all.end(), tokens.begin() + kZipPrompt + 1, tokens.end());
  all.insert(all.end(), tokens.begin() + kZipPrompt, tokens.end());
  all.push_back(tokens.back());
  Step step{{1, 0, 2, 3}, {1, 11, 12, 1}, all, {kWantLogits, kWantLogits, kWantLogits, kWantLogits}};
  step.sparse = {{0, 5, isSeen}, {1, 5, isSeen}};
  const StepResult result = run(*device, 0, std::move(step));
  expectSame(result.entries[0].logits, sparse, "a sparse sequence's last token");
  expectSame(result.entries[1].logits, sparse, "the end of a sparse sequence");
  expectSame(result.entries[2].logits, dense, "the end of a dense sequence");
  expectSame(result.entries[3].logits, dense, "a dense sequence's last token");
}
