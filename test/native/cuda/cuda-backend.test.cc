// The whole backend: a model on a device, or on the emulated one, against the processor's and against itself.

#include "cuda/cuda-backend.h"

#include <future>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "backend-device.h"
#include "check.h"
#include "core/error.h"
#include "cpu/cpu-backend.h"
#include "following-steps.h"

#ifdef TANDEM_CUDA_EMULATION
#include "cuda-emulated-runtime.h"
#endif

using namespace tandem;
using namespace tandem::test;

TEST("cuda backend: logits of every family are near a float64 decoder's, and the processor's") {
  const std::vector<std::int32_t> tokens = prompt(45, 37);
  for (const Family& family : families()) {
    const TinyModel model(family.spec, 11);
    const std::vector<double> expected = model.logits({tokens.begin(), tokens.end()});
    for (const auto& [weightClass, bound] :
         {std::pair{WeightClass::bf16, 0.03}, {WeightClass::int8, 0.05}, {WeightClass::int4, 0.35}}) {
      const auto device = open(model, weightClass);
      const std::vector<float> logits = logitsOf(*device, tokens);
      const double error = relativeError(logits, expected);
      isTrue(error < bound, std::string(family.name) + ": relative error " + std::to_string(error));
      Device processor(makeCpuBackend(1), optionsFor(model, weightClass));
      const double apart = relativeError(logits, logitsOf(processor, tokens));
      isTrue(apart < bound, std::string(family.name) + ": apart from the CPU by " + std::to_string(apart));
    }
  }
}

TEST("cuda backend: a model in fp8 is near a float64 decoder of its values, in every class") {
  const std::vector<std::int32_t> tokens = prompt(20, 37);
  const TinyModel model(llama(), 26, TinyModel::Stored::fp8);
  const std::vector<double> expected = model.logits({tokens.begin(), tokens.end()});
  for (const auto& [weightClass, bound] :
       {std::pair{WeightClass::bf16, 0.03}, {WeightClass::int8, 0.05}, {WeightClass::int4, 0.35}}) {
    const double error = relativeError(logitsOf(*open(model, weightClass), tokens), expected);
    isTrue(error < bound, "relative error " + std::to_string(error));
    Device processor(makeCpuBackend(1), optionsFor(model, weightClass));
    const double onProcessor = relativeError(logitsOf(processor, tokens), expected);
    isTrue(onProcessor < bound, "relative error on the processor " + std::to_string(onProcessor));
  }
}

TEST("cuda backend: chunks, lanes and KV classes keep every family's bits") {
  const std::vector<std::int32_t> tokens = prompt(70, 53);
  for (const Family& family : families()) {
    const TinyModel model(family.spec, 12);
    for (const PrecisionClass kv : {PrecisionClass::bf16, PrecisionClass::int8}) {
      // Codes of the keys and values beside codes of the weights.
      const auto device = open(model, kv == PrecisionClass::bf16 ? WeightClass::int8 : WeightClass::int4, kv);
      const std::vector<float> whole = logitsOf(*device, tokens);
      for (const std::size_t chunk : {11, 33}) {
        expectSame(logitsOf(*device, tokens, chunk), whole,
                   std::string(family.name) + ", in chunks of " + std::to_string(chunk));
      }
      openSlot(*device, 0, static_cast<std::int64_t>(tokens.size()));
      append(*device, 0, {tokens.begin(), tokens.end() - 6}, 128);
      expectSame(append(*device, 0, {tokens.end() - 6, tokens.end()}, 1), whole,
                 std::string(family.name) + ", token by token");
      device->closeSlot(0);
    }
  }
}

TEST("cuda backend: a sequence alone and in a crowd has the same bits") {
  const TinyModel model(llama(), 13);
  const auto device = open(model);
  const std::vector<std::int32_t> tokens = prompt(40, 31), other = prompt(60, 17);
  const std::vector<float> expected = logitsOf(*device, tokens);
  for (int slot = 0; slot < 4; ++slot) openSlot(*device, slot, 96);
  const std::vector<std::int32_t> most(tokens.begin(), tokens.end() - 1);
  run(*device, 0, {{0}, {39}, most, {0}});
  run(*device, 1, {{2}, {39}, most, {0}});
  run(*device, 0, {{3}, {60}, other, {0}});
  std::vector<std::int32_t> mixed{tokens.back()};
  mixed.insert(mixed.end(), tokens.begin(), tokens.end());
  mixed.push_back(tokens.back());
  mixed.push_back(5);
  const StepResult result = run(
      *device, 0, {{0, 1, 2, 3}, {1, 40, 1, 1}, mixed, {kWantLogits, kWantLogits, kWantLogits, kWantLogits}});
  for (int entry = 0; entry < 3; ++entry) expectSame(result.entries[entry].logits, expected, "in a crowd");
}

TEST("cuda backend: both lanes at once compute what each computes alone") {
  const TinyModel model(llama(), 14);
  const auto device = open(model);
  const std::vector<std::int32_t> longer = prompt(96, 29), shorter = prompt(40, 43);
  const std::vector<float> expected[] = {logitsOf(*device, longer), logitsOf(*device, shorter)};
  for (int round = 0; round < 3; ++round) {
    openSlot(*device, 0, 96);
    openSlot(*device, 1, 40);
    device->partition(4 + 4 * round);
    std::future<StepResult> prefill, decode;
    std::vector<float> logits[2];
    std::size_t at[2] = {0, 0};
    const auto next = [&](int slot, const std::vector<std::int32_t>& tokens, std::size_t chunk) {
      const std::vector<std::int32_t> part(tokens.begin() + at[slot], tokens.begin() + at[slot] + chunk);
      at[slot] += chunk;
      return start(*device, slot, {{slot}, {static_cast<std::int32_t>(chunk)}, part, {kWantLogits}});
    };
    while (at[0] < longer.size() || at[1] < shorter.size()) {
      if (at[0] < longer.size()) prefill = next(0, longer, 24);
      for (int i = 0; i < 10 && at[1] < shorter.size(); ++i)
        logits[1] = next(1, shorter, 1).get().entries[0].logits;
      if (prefill.valid()) logits[0] = prefill.get().entries[0].logits;
    }
    for (int slot = 0; slot < 2; ++slot) {
      expectSame(logits[slot], expected[slot], "lane " + std::to_string(slot));
      device->closeSlot(slot);
    }
  }
}

namespace {

void swapOut(Device& device, int slot, SwapId& id) {
  std::promise<void> copied;
  id = device.swapOut(slot, [&] { copied.set_value(); });
  copied.get_future().get();
  device.finishSwap(slot);
}

void swapIn(Device& device, int slot, SwapId id) {
  std::promise<void> copied;
  isTrue(device.swapIn(slot, id, [&] { copied.set_value(); }), "there is room to come back");
  copied.get_future().get();
  device.finishSwap(slot);
}

}  // namespace

TEST("cuda backend: what was swapped out goes on with the same bits on other pages") {
  const TinyModel model(llama(), 15);
  const std::vector<std::int32_t> tokens = prompt(100, 29);
  for (const PrecisionClass kv : {PrecisionClass::bf16, PrecisionClass::int8}) {
    const auto device = open(model, WeightClass::bf16, kv);
    const std::vector<float> expected = logitsOf(*device, tokens);
    for (const int before : {1, 32, 70}) {
      openSlot(*device, 0, 100);
      append(*device, 0, {tokens.begin(), tokens.begin() + before}, 128);
      SwapId id = -1;
      swapOut(*device, 0, id);
      isTrue(device->kv().reserve(0, 128), "room");
      append(*device, 0, std::vector<std::int32_t>(128, 7), 128);
      device->openSlot(1, {});
      swapIn(*device, 1, id);
      device->closeSlot(0);
      isTrue(device->kv().reserve(1, 100), "room");
      expectSame(append(*device, 1, {tokens.begin() + before, tokens.end()}, 128), expected,
                 "after a swap at " + std::to_string(before));
      device->closeSlot(1);
    }
  }
}

TEST("cuda backend: forks, cached blocks and blocks in exchange go on with the same bits") {
  const TinyModel model(llama(), 16);
  const auto device = open(model);
  const std::vector<std::int32_t> tokens = prompt(100, 41);
  const std::vector<float> expected = logitsOf(*device, tokens);
  const auto rest = [&](int from) { return std::vector<std::int32_t>(tokens.begin() + from, tokens.end()); };

  openSlot(*device, 0, 100);
  append(*device, 0, {tokens.begin(), tokens.begin() + 70}, 128);
  // A fork ends within a page, which both go on to fill, each with its own tokens.
  device->openSlot(1, {});
  isTrue(device->kv().fork(0, 1, 70), "a fork fits");
  isTrue(device->kv().reserve(1, 100), "room");
  append(*device, 0, std::vector<std::int32_t>(30, 3), 7);
  expectSame(append(*device, 1, rest(70), 11), expected, "forked");

  // A second sequence begins with the first one's blocks, and takes over the fork's for its own.
  const std::vector<std::int32_t> blocks{device->kv().publish(1, 0), device->kv().publish(1, 1)};
  device->openSlot(2, {});
  device->kv().attach(2, blocks);
  isTrue(device->kv().reserve(2, 100), "room");
  expectSame(append(*device, 2, rest(64), 128), expected, "on cached blocks");
  openSlot(*device, 3, 100);
  append(*device, 3, {tokens.begin(), tokens.begin() + 64}, 128);
  device->kv().replace(3, 1, blocks[1]);
  device->closeSlot(1);
  device->closeSlot(2);
  expectSame(append(*device, 3, rest(64), 128), expected, "with a block in exchange");
  device->kv().unpublish(blocks);
  device->closeSlot(0);
  device->closeSlot(3);
  test::equal(device->kv().heldBytes(), std::size_t{0}, "bytes at the end");
}

TEST("cuda backend: tokens are drawn, penalized and scored as the processor does, and pages are reused") {
  const TinyModel model(llama(), 17);
  SlotOptions greedy, random;
  greedy.params.logprobs = 3;
  greedy.params.repetitionPenalty = 1.3f;
  greedy.params.bias = {{5, -100.0f}};
  greedy.promptTokens = prompt(40, 23);
  random.params.temperature = 0.8f;
  random.params.topP = 0.9f;
  random.params.seed = 7;
  const auto tokensOf = [&](Device& device) {
    std::vector<std::int32_t> drawn;
    for (int life = 0; life < 2; ++life) {
      openSlot(device, 0, 64, greedy);
      openSlot(device, 1, 64, random);
      StepResult result = run(device, 0, {{0, 1}, {40, 30}, prompt(70, 23), {kWantSample, kWantSample}});
      for (int step = 0; step < 12; ++step) {
        for (const EntryResult& entry : result.entries) drawn.push_back(entry.token);
        test::equal(result.entries[0].topTokens.size(), std::size_t{3}, "most likely tokens");
        isTrue(std::isnan(result.entries[1].logprob), "no log probability where none is asked for");
        result = run(device, 1, {{0, 1}, {0, 0}, {}, {kWantSample, kWantSample}});
      }
      device.closeSlot(0);
      device.closeSlot(1);
    }
    return drawn;
  };
  const auto device = open(model);
  const std::vector<std::int32_t> drawn = tokensOf(*device);
  isTrue(std::equal(drawn.begin(), drawn.begin() + 24, drawn.begin() + 24), "a second life is the same");
  Device processor(makeCpuBackend(1), optionsFor(model));
  const std::vector<std::int32_t> expected = tokensOf(processor);
  // Near ties may fall either way in bf16.
  int same = 0;
  for (std::size_t i = 0; i < drawn.size(); ++i) same += drawn[i] == expected[i];
  isTrue(same >= 40, "of 48 tokens " + std::to_string(same) + " are the processor's");
}

TEST("cuda backend: what a slot's grammar allows is drawn, beside a slot without one") {
  const TinyModel model(llama(), 18);
  const auto device = open(model);
  SlotOptions free, bound;
  free.params.temperature = bound.params.temperature = 1;
  free.params.seed = 8;
  bound.params.logprobs = 2;
  bound.params.bias = {{0, -100.0f}};
  bound.grammar = lettersInTurn(*device);
  const auto drawnBy = [&](const std::vector<std::int32_t>& slots) {
    const auto count = static_cast<std::int32_t>(slots.size());
    const std::vector<std::uint8_t> wants(slots.size(), kWantSample);
    const std::vector<std::int32_t> lengths(slots.size(), 20), none(slots.size(), 0);
    std::map<std::int32_t, std::vector<std::int32_t>> drawn;
    for (const std::int32_t slot : slots) openSlot(*device, slot, 64, slot == 0 ? bound : free);
    StepResult result = run(*device, 0, {slots, lengths, prompt(20 * count, 0), wants});
    for (int step = 0; step < 10; ++step) {
      for (std::size_t i = 0; i < slots.size(); ++i) drawn[slots[i]].push_back(result.entries[i].token);
      result = run(*device, 1, {slots, none, {}, wants});
    }
    for (const std::int32_t slot : slots) device->closeSlot(slot);
    return drawn;
  };
  auto together = drawnBy({0, 1});
  for (int i = 0; i < 10; ++i) test::equal(together[0][i] % 5, i % 2, "the grammar's next letter");
  isTrue(drawnBy({0})[0] == together[0] && drawnBy({1})[1] == together[1], "as each alone");
}

TEST("cuda backend: a step of more sequences than it has rows of logits draws for each what it draws alone") {
  constexpr int kMany = 260;
  const TinyModel model(llama(), 27);
  const auto optionsOf = [&] {
    DeviceOptions options = optionsFor(model);
    options.slots = options.maxStepTokens = kMany;
    options.kvBytes = 8 << 20;
    return options;
  };
  Device device(cuda::makeCudaBackend({}), optionsOf());
  isTrue(kMany > device.backend().logitRows(), "rounds");
  std::vector<std::int32_t> slots(kMany);
  std::iota(slots.begin(), slots.end(), 0);
  const auto openAll = [&](Device& on) {
    for (const std::int32_t slot : slots) {
      SlotOptions options;
      options.params.seed = 1000 + slot;
      options.params.temperature = slot % 3 == 0 ? 0.0f : 0.9f;
      options.params.logprobs = slot % 2 == 0 ? 2 : -1;
      openSlot(on, slot, 16, options);
    }
  };
  const auto prompts = prompt(kMany, 41);
  // What each draws in steps of all, or in its own.
  const auto together = [&](Device& on) {
    openAll(on);
    const std::vector<std::uint8_t> wants(kMany, kWantSample);
    std::vector<std::vector<EntryResult>> steps;
    steps.push_back(run(on, 0, {slots, std::vector<std::int32_t>(kMany, 1), prompts, wants}).entries);
    for (int step = 0; step < 2; ++step) steps.push_back(run(on, 1, decodeStep(slots)).entries);
    for (const std::int32_t slot : slots) on.closeSlot(slot);
    return steps;
  };
  const auto steps = together(device);
  openAll(device);
  // Of the first round some, of the second all.
  for (const std::int32_t slot : slots) {
    if (slot % 16 != 0 && slot < device.backend().logitRows()) continue;
    const auto place = static_cast<std::size_t>(slot);
    for (std::size_t step = 0; step < steps.size(); ++step) {
      const StepResult alone = step == 0 ? run(device, 0, {{slot}, {1}, {prompts[place]}, {kWantSample}})
                                         : run(device, 1, decodeStep({slot}));
      const EntryResult& drawn = steps[step][place];
      const std::string what = "sequence " + std::to_string(slot) + ", step " + std::to_string(step);
      test::equal(drawn.token, alone.entries[0].token, what);
      isTrue(drawn.topTokens == alone.entries[0].topTokens, what + ": most likely tokens");
      if (slot % 2 == 0) test::equal(drawn.logprob, alone.entries[0].logprob, what);
    }
  }
  Device processor(makeCpuBackend(1), optionsOf());
  const auto expected = together(processor);
  // Near ties may fall either way in bf16, and answers go apart then.
  int same = 0;
  for (std::size_t slot = 0; slot < kMany; ++slot) same += steps[0][slot].token == expected[0][slot].token;
  isTrue(same >= kMany * 9 / 10, "of 260 first tokens " + std::to_string(same) + " are the processor's");
}

TEST("cuda backend: a prompt is scored in chunks as in one") {
  const TinyModel model(llama(), 18);
  const auto device = open(model);
  Device processor(makeCpuBackend(1), optionsFor(model));
  const std::vector<std::int32_t> tokens = prompt(50, 23);
  SlotOptions options;
  options.params.logprobs = 2;
  const auto scores = [&](Device& on, std::size_t chunk) {
    openSlot(on, 0, 50, options);
    std::vector<float> all;
    for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const std::vector<std::int32_t> part(tokens.begin() + begin,
                                           tokens.begin() + std::min(tokens.size(), begin + chunk));
      const StepResult result =
          run(on, 0, {{0}, {static_cast<std::int32_t>(part.size())}, part, {kWantPromptLogprobs}});
      const PromptLogprobs& scored = result.entries[0].prompt;
      test::equal(scored.nextTokens.size(), 2 * part.size(), "candidates");
      all.insert(all.end(), scored.logprobs.begin(), scored.logprobs.end());
    }
    on.closeSlot(0);
    return all;
  };
  const std::vector<float> whole = scores(*device, 50), chunked = scores(*device, 13),
                           expected = scores(processor, 50);
  isTrue(std::isnan(whole[0]) && std::isnan(chunked[0]), "the first token has no score");
  for (std::size_t i = 1; i < whole.size(); ++i) {
    test::equal(chunked[i], whole[i], "score of token " + std::to_string(i));
    near(whole[i], expected[i], 0.2, "score of token " + std::to_string(i));
  }
}

TEST("cuda backend: a step's time is told, and of some steps by operator") {
  const TinyModel model(llama(), 19);
  const auto device = open(model);
  openSlot(*device, 0, 96);
  int measured = 0;
  for (int step = 0; step < 32; ++step) {
    const StepResult result = run(*device, 1, {{0}, {1}, {step}, {0}});
    isTrue(result.seconds.total > 0, "the step took time");
    if (!result.seconds.byClass) continue;
    ++measured;
    double sum = 0;
    for (const double seconds : *result.seconds.byClass) sum += seconds;
    near(sum, result.seconds.total, 1e-9, "the sum of the classes");
    const OpSeconds& classes = *result.seconds.byClass;
    isTrue(classes[0] > 0 && classes[1] == 0 && classes[2] > 0 && classes[3] > 0, "classes of a decode step");
  }
  test::equal(measured, 2, "of 32 short steps are measured");
}

TEST("cuda backend: KV takes what is left, and what cannot fit is refused with the sizes") {
  const TinyModel model(llama(), 20);
  DeviceOptions options = optionsFor(model);
  options.kvBytes = 0;
  options.maxSequenceTokens = 64;
  {
    Device device(cuda::makeCudaBackend({0, 0.05}), options);
    const auto share = static_cast<double>(device.kv().totalBlocks()) * device.kv().blockBytes();
    isTrue(share > 0, "there is KV");
    isTrue(device.backend().freeMemory() < (std::size_t{32} << 20), "little is left");
    openSlot(device, 0, 128);
    throws([&] { run(device, 0, {{0}, {65}, prompt(65, 3), {0}}); }, "opened for sequences of 64");
  }
  options.kvBytes = std::size_t{1} << 50;
  throws([&] { Device(cuda::makeCudaBackend({}), options); }, "lower --kv-memory");
  options.kvMayShrink = true;
  {
    Device device(cuda::makeCudaBackend({0, 0.05}), options);
    isTrue(device.kv().totalBlocks() > 0, "there is as much KV as there is room for");
    isTrue(device.kv().totalBlocks() * device.kv().blockBytes() < options.kvBytes, "which is less");
  }
  throws([&] { Device(cuda::makeCudaBackend({0, 1e-9}), options); }, "take smaller weights");
}

TEST("cuda backend: names its device, and the splits that it can make") {
  const auto backend = cuda::makeCudaBackend({});
  isTrue(std::string(backend->kind()) == "cuda", "its kind");
  isTrue(!backend->name().empty(), "its name");
  const std::optional<std::vector<int>> splits = backend->splits();
  isTrue(splits && !splits->empty(), "lanes can run at once");
  int last = 0;
  for (const int split : *splits) {
    isTrue(split > last && split < backend->units(), "splits rise, and leave both lanes some");
    last = split;
  }
}

TEST("cuda backend: refuses devices and fractions that are not there") {
  throws([] { cuda::makeCudaBackend({99, 0.9}); }, "there is no CUDA device 99");
  throws([] { cuda::makeCudaBackend({-1, 0.9}); }, "there is no CUDA device -1");
  throws([] { cuda::makeCudaBackend({0, 0}); }, "a fraction above 0");
  throws([] { cuda::makeCudaBackend({0, 1.5}); }, "a fraction above 0");
  const auto backend = cuda::makeCudaBackend({});
  throws([&] { backend->openLane(2, {}); }, "a lane is");
  throws([&] { backend->claimUnits(0, 0, 1); }, "opened before");
}

TEST("cuda backend: a failed step fails alone") {
  const TinyModel model(llama(), 21);
  const auto device = open(model);
  const std::vector<std::int32_t> tokens = prompt(40, 31);
  const std::vector<float> expected = logitsOf(*device, tokens);
  openSlot(*device, 0, 64);
  device->partition(0);
  throws([&] { start(*device, 0, {{0}, {1}, {1}, {0}}).get(); }, "no compute units");
  test::equal(device->kv().length(0), std::int64_t{0}, "tokens after the failed step");
  expectSame(append(*device, 0, tokens, 128), expected, "the next step");
}

namespace {

bool convert(Device& device, int slot, std::int64_t begin, std::int64_t end, PrecisionClass precision,
             int layer = -1) {
  const int layers = device.spec().layers;
  std::vector<PrecisionClass> classes;
  for (std::int64_t page = 0; page < (end - begin) * layers; ++page) {
    // What lies in its class already stays.
    classes.push_back(layer < 0 || page % layers == layer ? precision : PrecisionClass::bf16);
  }
  return test::convert(device, slot, begin, end, classes);
}

}  // namespace

TEST("cuda backend: a sequence whose pages were converted goes on near the exact one, with fewer bytes") {
  const TinyModel model(llama(), 23);
  const auto device = open(model);
  const std::vector<std::int32_t> tokens = prompt(128, 31);
  const std::vector<float> expected = logitsOf(*device, tokens);
  for (const auto& [precision, bound] :
       {std::pair{PrecisionClass::int8, 0.03}, {PrecisionClass::int4, 0.15}, {PrecisionClass::int2, 0.5}}) {
    openSlot(*device, 0, 128);
    append(*device, 0, {tokens.begin(), tokens.begin() + 100}, 128);
    const std::size_t before = device->kv().heldBytes();
    isTrue(convert(*device, 0, 0, 3, precision), "there is room for both forms");
    const PageFormat& format = device->kv().format();
    test::equal(before - device->kv().heldBytes(),
                3 * 2 * (format.pageBytes() - format.in(precision).pageBytes()), "bytes saved");
    const std::vector<float> logits = append(*device, 0, {tokens.begin() + 100, tokens.end()}, 128);
    const double error = relativeError(logits, expected);
    isTrue(error > 0 && error < bound,
           std::string(nameOf(precision)) + ": relative error " + std::to_string(error));
    device->closeSlot(0);
  }
}

TEST("cuda backend: tokens that are written to int8 pages go on near a pool in int8, with its bytes") {
  const TinyModel model(llama(), 25);
  const auto device = open(model), int8 = open(model, WeightClass::bf16, PrecisionClass::int8);
  const std::vector<std::int32_t> tokens = prompt(70, 43);
  device->openSlot(0, {});
  isTrue(device->kv().reserve(0, 70, PrecisionClass::int8), "room");
  const std::vector<float> logits = append(*device, 0, tokens, 20);
  test::equal(device->kv().heldBytes(), 3 * device->kv().blockBytes(PrecisionClass::int8), "bytes");
  const std::vector<float> expected = logitsOf(*int8, tokens);
  const double apart = relativeError(logits, expected);
  isTrue(apart < 0.002, "apart from the pool in int8 by " + std::to_string(apart));
}

TEST("cuda backend: converted pages give the same bits in chunks, token by token, forked and swapped") {
  const TinyModel model(llama(), 24);
  const auto device = open(model, WeightClass::int8);
  const std::vector<std::int32_t> tokens = prompt(140, 41);
  // Every class, a page of int8 that is partly filled, and from then on tokens that are written as int8.
  const auto begin = [&](int slot) {
    openSlot(*device, slot, 100);
    append(*device, slot, {tokens.begin(), tokens.begin() + 100}, 128);
    isTrue(convert(*device, slot, 0, 1, PrecisionClass::int2), "room");
    isTrue(convert(*device, slot, 1, 2, PrecisionClass::int4, 0), "room");
    isTrue(convert(*device, slot, 1, 4, PrecisionClass::int8, 1), "room");
  };
  const auto goOn = [&](int slot, std::size_t chunk) {
    isTrue(device->kv().reserve(slot, 140, PrecisionClass::int8), "room");
    const std::vector<float> logits = append(*device, slot, {tokens.begin() + 100, tokens.end()}, chunk);
    device->closeSlot(slot);
    return logits;
  };
  begin(0);
  const std::vector<float> expected = goOn(0, 20);
  for (const std::size_t chunk : {1, 7}) {
    begin(1);
    expectSame(goOn(1, chunk), expected, "chunks of " + std::to_string(chunk));
  }
  begin(0);
  device->openSlot(1, {});
  isTrue(device->kv().fork(0, 1, 100), "a fork fits");
  expectSame(goOn(1, 9), expected, "forked");
  SwapId id = -1;
  swapOut(*device, 0, id);
  device->closeSlot(0);
  device->openSlot(2, {});
  swapIn(*device, 2, id);
  expectSame(goOn(2, 20), expected, "swapped");
  test::equal(device->kv().heldBytes(), std::size_t{0}, "bytes at the end");
}

TEST("cuda backend: steps that follow one another have the tokens of steps that are waited for") {
  const TinyModel model(llama(), 25);
  checkFollowing(*open(model));
}

#ifdef TANDEM_CUDA_EMULATION

TEST("cuda backend: a lost device is told by steps and by what ends a swap, and closes") {
  const TinyModel model(llama(), 22);
  auto device = open(model);
  openSlot(*device, 0, 64);
  openSlot(*device, 1, 64);
  append(*device, 0, prompt(40, 31), 128);
  const emulation::LostDevice lost;
  bool told = false;
  try {
    run(*device, 1, {{1}, {1}, {1}, {kWantSample}});
  } catch (const DeviceLost&) {
    told = true;
  }
  isTrue(told, "a step fails with DeviceLost");
  std::promise<void> copied;
  device->swapOut(0, [&] { copied.set_value(); });
  copied.get_future().get();
  throws([&] { device->finishSwap(0); }, "the CUDA device is lost");
  throws([&] { run(*device, 0, {{1}, {1}, {1}, {kWantSample}}); }, "the CUDA device is lost");
  device.reset();
}

#endif
