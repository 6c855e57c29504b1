#include "model/device.h"

#include <atomic>
#include <cstring>
#include <future>
#include <memory>
#include <utility>

#include "check.h"
#include "cpu/cpu-backend.h"
#include "device-case.h"
#include "tiny-model.h"

using namespace tandem;
using namespace tandem::test;

namespace {

struct Family {
  const char* name;
  ModelSpec spec;
};

std::vector<Family> families() {
  std::vector<Family> all{{"llama, grouped query heads", unevenLlama()}};
  ModelSpec mha = unevenLlama();
  mha.kvHeads = 6;
  mha.tiedEmbeddings = true;
  mha.outputBias = mha.attentionBias = mha.mlpBias = true;
  all.push_back({"llama, one key head a query head, tied, every bias", mha});
  ModelSpec qwen2 = unevenLlama();
  qwen2.attentionBias = true;
  all.push_back({"qwen2: biases on q, k and v", qwen2});
  ModelSpec qwen3 = unevenLlama();
  qwen3.qkNorm = true;
  qwen3.headDim = 32;  // apart from hidden / heads
  qwen3.rope.inverseFrequencies.resize(16, 0.01f);
  all.push_back({"qwen3: norms on q and k, its own head dimension", qwen3});
  ModelSpec mistral = unevenLlama();
  mistral.slidingWindow = {7, 0};
  all.push_back({"mistral: a window in one layer", mistral});
  ModelSpec yarn = unevenLlama();
  yarn.rope.attentionFactor = 1.2f;
  all.push_back({"yarn's attention factor", yarn});
  return all;
}

std::vector<float> logitsOf(Device& device, const std::vector<std::int32_t>& tokens, std::size_t chunk) {
  device.openSlot(0, SlotOptions{});
  device.kv().reserve(0, static_cast<std::int64_t>(tokens.size()));
  StepResult result;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const std::size_t end = std::min(tokens.size(), begin + chunk);
    const std::vector<std::int32_t> part(tokens.begin() + begin, tokens.begin() + end);
    // Lanes take turns, which must not matter either.
    result = run(device, begin % 2, {{0}, {static_cast<std::int32_t>(part.size())}, part, {kWantLogits}});
  }
  device.closeSlot(0);
  return result.entries[0].logits;
}

}  // namespace

TEST("device: logits of every family equal a float64 decoder") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 45; ++i) tokens.push_back(i * 37 % 90);
  for (const Family& family : families()) {
    const test::TinyModel model(family.spec, 11);
    const std::vector<double> expected = model.logits({tokens.begin(), tokens.end()});
    double size = 0;
    for (const double value : expected) size += value * value;
    size = std::sqrt(size / static_cast<double>(expected.size()));
    for (const Isa isa : availableIsas()) {
      for (const auto& [weightClass, bound] :
           {std::pair{WeightClass::bf16, 0.03}, {WeightClass::int8, 0.05}, {WeightClass::int4, 0.5}}) {
        const auto device = open(model, weightClass, isa);
        const std::vector<float> logits = logitsOf(*device, tokens, 128);
        double error = 0;
        for (std::size_t i = 0; i < logits.size(); ++i) error += std::pow(logits[i] - expected[i], 2);
        error = std::sqrt(error / static_cast<double>(logits.size())) / size;
        test::isTrue(error < bound, std::string(family.name) + ", " + isaName(isa) + ": relative rms error " +
                                        std::to_string(error) + ", bound " + std::to_string(bound));
      }
    }
  }
}

TEST("device: chunks, lanes and KV classes keep every family's bits") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 70; ++i) tokens.push_back(i * 53 % 90);
  for (const Family& family : families()) {
    const test::TinyModel model(family.spec, 12);
    for (const PrecisionClass kv : {PrecisionClass::bf16, PrecisionClass::int8}) {
      const auto device = open(model, WeightClass::int8, availableIsas().front(), kv);
      const std::vector<float> whole = logitsOf(*device, tokens, 128);
      for (const std::size_t chunk : {1, 5, 33}) {
        const std::vector<float> chunked = logitsOf(*device, tokens, chunk);
        test::isTrue(std::memcmp(whole.data(), chunked.data(), whole.size() * sizeof(float)) == 0,
                     family.name);
      }
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
  test::isTrue(device.swapIn(slot, id, [&] { copied.set_value(); }), "there is room to come back");
  copied.get_future().get();
  device.finishSwap(slot);
}

}  // namespace

TEST("device: a sequence that was swapped out goes on with the same bits, wherever its pages end") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 130; ++i) tokens.push_back(i * 29 % 90);
  const test::TinyModel model(unevenLlama(), 15);
  for (const PrecisionClass kv : {PrecisionClass::bf16, PrecisionClass::int8}) {
    const auto device = open(model, WeightClass::bf16, availableIsas().front(), kv);
    const std::vector<float> expected = logitsOf(*device, tokens, 128);
    const std::int64_t free = device->kv().freeBlocks();
    for (const std::int32_t before : {0, 1, 31, 32, 33, 64, 100}) {
      const std::vector<std::int32_t> first(tokens.begin(), tokens.begin() + before);
      const std::vector<std::int32_t> rest(tokens.begin() + before, tokens.begin() + 128);
      const auto count = [](const auto& part) { return static_cast<std::int32_t>(part.size()); };
      device->openSlot(0, SlotOptions{});
      device->kv().reserve(0, 130);
      if (before > 0) run(*device, 0, {{0}, {before}, first, {0}});
      SwapId id = -1;
      swapOut(*device, 0, id);
      test::equal(device->kv().freeBlocks(), free, "free blocks once swapped out");
      test::equal(device->kv().length(0), std::int64_t{0}, "tokens once swapped out");
      const auto bytes = static_cast<std::size_t>((before + 31) / 32) * device->kv().blockBytes();
      test::equal(device->kv().swappedBytes(), bytes, "bytes of a swapped sequence");

      // Someone else writes on the pages.
      run(*device, 0, [&] {
        device->kv().reserve(0, 128);
        return Step{{0}, {128}, std::vector<std::int32_t>(128, 7), {0}};
      }());
      device->closeSlot(0);
      device->openSlot(1, SlotOptions{});
      swapIn(*device, 1, id);
      test::equal(device->kv().swappedBytes(), std::size_t{0}, "bytes once swapped in");
      test::equal(device->kv().length(1), std::int64_t{before}, "tokens once swapped in");
      device->kv().reserve(1, 130);
      run(*device, 0, {{1}, {count(rest)}, rest, {0}});
      const std::vector<std::int32_t> last(tokens.begin() + 128, tokens.end());
      const std::vector<float> logits = run(*device, 1, {{1}, {2}, last, {kWantLogits}}).entries[0].logits;
      test::isTrue(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)) == 0,
                   "logits after a swap at " + std::to_string(before));
      device->closeSlot(1);
    }
  }
}

namespace {

bool convert(Device& device, int slot, std::int64_t begin, std::int64_t end, PrecisionClass precision,
             int layer = -1) {
  std::promise<void> converted;
  const int layers = device.spec().layers;
  std::vector<PrecisionClass> classes;
  for (std::int64_t page = 0; page < (end - begin) * layers; ++page) {
    // What lies in its class already stays.
    classes.push_back(layer < 0 || page % layers == layer ? precision : PrecisionClass::bf16);
  }
  if (!device.convert(slot, begin, end, classes, [&] { converted.set_value(); })) return false;
  converted.get_future().get();
  device.finishConversion(slot);
  return true;
}

}  // namespace

TEST("device: a sequence whose pages were converted goes on near the exact one, with fewer bytes") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 128; ++i) tokens.push_back(i * 31 % 90);
  const test::TinyModel model(unevenLlama(), 18);
  for (const Isa isa : availableIsas()) {
    const auto device = open(model, WeightClass::bf16, isa);
    const std::vector<float> expected = logitsOf(*device, tokens, 128);
    double size = 0;
    for (const float value : expected) size += value * value;
    for (const auto& [precision, bound] :
         {std::pair{PrecisionClass::int8, 0.01}, std::pair{PrecisionClass::int4, 0.1},
          std::pair{PrecisionClass::int2, 0.4}}) {
      device->openSlot(0, SlotOptions{});
      device->kv().reserve(0, 128);
      run(*device, 0, {{0}, {100}, {tokens.begin(), tokens.begin() + 100}, {0}});
      const std::size_t before = device->kv().heldBytes();
      test::isTrue(convert(*device, 0, 0, 3, precision), "there is room for both forms");
      const PageFormat& format = device->kv().format();
      test::equal(before - device->kv().heldBytes(),
                  3 * 2 * (format.pageBytes() - format.in(precision).pageBytes()), "bytes saved");
      const std::vector<float> logits =
          run(*device, 1, {{0}, {28}, {tokens.begin() + 100, tokens.end()}, {kWantLogits}}).entries[0].logits;
      double error = 0;
      for (std::size_t i = 0; i < logits.size(); ++i) error += std::pow(logits[i] - expected[i], 2);
      error = std::sqrt(error / size);
      test::isTrue(error > 0 && error < bound, std::string(isaName(isa)) + ", " + nameOf(precision) +
                                                   ": relative error " + std::to_string(error));
      device->closeSlot(0);
    }
  }
}

TEST("device: converted pages give the same bits in chunks, token by token, forked, shared and swapped") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 140; ++i) tokens.push_back(i * 41 % 90);
  const std::vector<std::int32_t> first(tokens.begin(), tokens.begin() + 100);
  const test::TinyModel model(unevenLlama(), 19);
  const auto device = open(model, WeightClass::int8, availableIsas().front());
  // Every class, a page of int8 that is partly filled, and from then on tokens that are written as int8.
  const auto begin = [&](int slot) {
    device->openSlot(slot, SlotOptions{});
    device->kv().reserve(slot, 100);
    run(*device, 0, {{slot}, {100}, first, {0}});
    test::isTrue(convert(*device, slot, 0, 1, PrecisionClass::int2), "room");
    test::isTrue(convert(*device, slot, 1, 2, PrecisionClass::int4, 0), "room");
    test::isTrue(convert(*device, slot, 1, 4, PrecisionClass::int8, 1), "room");
  };
  const auto goOn = [&](int slot, std::int32_t chunk) {
    device->kv().reserve(slot, 140, PrecisionClass::int8);
    std::vector<float> logits;
    for (std::int32_t at = static_cast<std::int32_t>(device->kv().length(slot)); at < 140; at += chunk) {
      const std::int32_t count = std::min(chunk, 140 - at);
      logits = run(*device, at % 2,
                   {{slot}, {count}, {tokens.begin() + at, tokens.begin() + at + count}, {kWantLogits}})
                   .entries[0]
                   .logits;
    }
    device->closeSlot(slot);
    return logits;
  };
  begin(0);
  const std::vector<float> expected = goOn(0, 20);
  const auto expectSame = [&](const std::vector<float>& logits, const std::string& what) {
    test::isTrue(std::memcmp(logits.data(), expected.data(), expected.size() * sizeof(float)) == 0, what);
  };
  for (const std::int32_t chunk : {1, 7}) {
    begin(1);
    expectSame(goOn(1, chunk), "chunks of " + std::to_string(chunk));
  }
  begin(0);
  device->openSlot(1, SlotOptions{});
  test::isTrue(device->kv().fork(0, 1, 100), "a fork fits");
  expectSame(goOn(1, 9), "forked");
  expectSame(goOn(0, 20), "the fork's source");

  begin(0);
  SwapId id = -1;
  swapOut(*device, 0, id);
  device->closeSlot(0);
  device->openSlot(2, SlotOptions{});
  swapIn(*device, 2, id);
  expectSame(goOn(2, 20), "swapped");

  // One who shares the exact pages keeps them.
  device->openSlot(0, SlotOptions{});
  device->kv().reserve(0, 140);
  run(*device, 0, {{0}, {100}, first, {0}});
  device->openSlot(1, SlotOptions{});
  test::isTrue(device->kv().fork(0, 1, 100), "a fork fits");
  test::isTrue(convert(*device, 1, 0, 3, PrecisionClass::int2), "room");
  const std::vector<float> exact = goOn(0, 20);
  test::isTrue(exact == logitsOf(*device, tokens, 128), "who shares the exact pages keeps them");
  device->closeSlot(1);
  test::equal(device->kv().heldBytes(), std::size_t{0}, "bytes at the end");
}

TEST("device: tokens that are written to int8 pages have the bits of a pool in int8") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i * 47 % 90);
  const test::TinyModel model(unevenLlama(), 23);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  const auto int8 = open(model, WeightClass::bf16, availableIsas().front(), PrecisionClass::int8);
  for (const std::size_t chunk : {1, 40}) {
    // What is reserved already stays as it is.
    device->openSlot(1, SlotOptions{});
    device->kv().reserve(1, 100, PrecisionClass::int8);
    device->kv().reserve(1, 100);
    test::equal(device->kv().heldBytes(), 4 * device->kv().blockBytes(PrecisionClass::int8), "bytes");
    std::vector<float> logits;
    for (std::size_t at = 0; at < 100; at += chunk) {
      const std::size_t end = std::min<std::size_t>(100, at + chunk);
      logits = run(*device, 0,
                   {{1},
                    {static_cast<std::int32_t>(end - at)},
                    {tokens.begin() + static_cast<std::ptrdiff_t>(at),
                     tokens.begin() + static_cast<std::ptrdiff_t>(end)},
                    {kWantLogits}})
                   .entries[0]
                   .logits;
    }
    test::isTrue(logits == logitsOf(*int8, tokens, 100), "chunks of " + std::to_string(chunk));
    device->closeSlot(1);
  }
}

TEST("device: a slot's steps go on with its old pages until a conversion is finished, or dropped") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 128; ++i) tokens.push_back(i * 43 % 90);
  const test::TinyModel model(unevenLlama(), 20);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  const std::vector<float> exact = logitsOf(*device, tokens, 128);
  const auto goOn = [&](std::int32_t from, std::int32_t to) {
    return run(*device, 1, {{0}, {to - from}, {tokens.begin() + from, tokens.begin() + to}, {kWantLogits}})
        .entries[0]
        .logits;
  };
  for (const bool dropped : {true, false}) {
    device->openSlot(0, SlotOptions{});
    device->kv().reserve(0, 96);
    run(*device, 0, {{0}, {96}, {tokens.begin(), tokens.begin() + 96}, {0}});
    const std::size_t before = device->kv().heldBytes();
    std::promise<void> converted;
    const std::vector<PrecisionClass> classes(static_cast<std::size_t>(2 * device->spec().layers),
                                              PrecisionClass::int2);
    device->convert(0, 0, 2, classes, [&] { converted.set_value(); });
    device->kv().reserve(0, 128);
    test::isTrue(goOn(96, 128) == exact, "a step beside a conversion");
    converted.get_future().get();
    if (dropped) {
      device->dropConversion(0);
      test::equal(device->kv().heldBytes(), before + device->kv().blockBytes(), "bytes after a drop");
    } else {
      device->finishConversion(0);
      test::equal(device->kv().heldBytes(PrecisionClass::int2),
                  2 * device->kv().blockBytes(PrecisionClass::int2), "bytes of the converted blocks");
    }
    device->closeSlot(0);
  }
  test::equal(device->kv().heldBytes(), std::size_t{0}, "bytes at the end");
}

TEST("device: a sequence of which the older mid is far has the logits of one that has all of it in place") {
  constexpr std::int64_t kRead = 14, kFarEnd = 8;  // pages
  ModelSpec spec = unevenLlama();
  spec.layers = 24;  // so that a few blocks' outlines are more than one chunk's
  spec.slidingWindow.assign(24, 0);
  const test::TinyModel model(spec, 23);
  DeviceOptions options = optionsFor(model);
  options.kvBytes = 8 << 20;
  options.selection = PageSelection{1, 2, false};
  options.maxSequenceTokens = 1024;
  const std::size_t farBlock = 24 * PageFormat{PrecisionClass::int4, spec.kvHeads, spec.headDim}.pageBytes();
  options.farBytes = farBlock - 1;
  test::throws([&] { Device(makeCpuBackend(1), options); }, "--pack-far-memory");
  options.farBytes = 16 * farBlock;
  Device device(makeCpuBackend(1), std::move(options));
  KvCache& kv = device.kv();
  const auto append = [&](int slot, std::int64_t count, std::int64_t chunk) {
    std::vector<float> logits;
    test::isTrue(kv.reserve(slot, kv.length(slot) + count), "room");
    for (std::int64_t end = kv.length(slot) + count; kv.length(slot) < end;) {
      const std::int64_t at = kv.dropped(slot) + kv.length(slot);
      std::vector<std::int32_t> tokens;
      for (std::int64_t i = 0; i < std::min(chunk, end - kv.length(slot)); ++i) {
        tokens.push_back(static_cast<std::int32_t>((at + i) * 37 % 90));
      }
      const auto tokenCount = static_cast<std::int32_t>(tokens.size());
      const StepResult result =
          test::run(device, at % 2, {{slot}, {tokenCount}, std::move(tokens), {kWantLogits}});
      logits.insert(logits.end(), result.entries[0].logits.begin(), result.entries[0].logits.end());
    }
    return logits;
  };
  const auto outlines = [&] {
    std::vector<std::byte*> addresses;
    for (int layer = 0; layer < spec.layers; ++layer) {
      const KvView view = kv.viewOf(0, layer);
      for (std::size_t page = 0; page < view.pages.size(); ++page) {
        if (view.classes[page] == PrecisionClass::far) addresses.push_back(view.pages[page]);
      }
    }
    return addresses;
  };
  const auto run = [&](bool far) {
    // Another one comes to be far first, and leaves outlines scattered when it goes.
    device.openSlot(1, SlotOptions{});
    append(1, 9 * kPageTokens, 128);
    test::isTrue(convert(device, 1, 0, 9, PrecisionClass::int4), "room");
    if (far) test::isTrue(convert(device, 1, 0, 9, PrecisionClass::far), "room");
    device.openSlot(0, SlotOptions{});
    append(0, kRead * kPageTokens, 128);
    test::isTrue(convert(device, 0, 1, 12, PrecisionClass::int4), "room");
    std::vector<std::vector<float>> logits;
    if (far) test::isTrue(convert(device, 0, 1, kFarEnd, PrecisionClass::far), "room");
    logits.push_back(append(0, 9, 4));
    device.closeSlot(1);
    if (far) {
      test::equal(kv.freeFarBlocks(), 16 - (kFarEnd - 1), "places that are left");
      const std::vector<std::byte*> before = outlines();
      test::isTrue(kv.compact(1), "outlines lie scattered");
      test::isTrue(outlines() != before, "they were moved");
    }
    logits.push_back(append(0, 8, 8));
    SwapId id = -1;
    swapOut(device, 0, id);
    if (far) test::equal(kv.freeFarBlocks(), 16 - (kFarEnd - 1), "places meanwhile");
    test::equal(kv.heldBytes(), std::size_t{0}, "KV memory meanwhile");
    swapIn(device, 0, id);
    logits.push_back(append(0, 7, 3));
    device.drop(0, 1, 4);
    if (far) test::equal(kv.freeFarBlocks(), 16 - (kFarEnd - 4), "places of what was dropped");
    logits.push_back(append(0, 9, 5));
    device.closeSlot(0);
    return logits;
  };
  const std::vector<std::vector<float>> inPlace = run(false), far = run(true);
  const char* when[] = {"before", "behind a compaction", "behind a swap", "behind a drop"};
  for (std::size_t i = 0; i < inPlace.size(); ++i) test::isTrue(far[i] == inPlace[i], when[i]);
  test::equal(kv.heldBytes(), std::size_t{0}, "KV memory at the end");
  test::equal(kv.freeFarBlocks(), std::int64_t{16}, "places at the end");
}

TEST("device: ends with swaps under way, and in host memory") {
  const test::TinyModel model(unevenLlama(), 16);
  std::atomic<int> copied = 0;
  {
    const auto device = open(model, WeightClass::bf16, availableIsas().front());
    for (int slot = 0; slot < 4; ++slot) {
      device->openSlot(slot, SlotOptions{});
      device->kv().reserve(slot, 128);
      run(*device, 0, {{slot}, {128}, std::vector<std::int32_t>(128, 5), {0}});
    }
    SwapId there = -1;
    swapOut(*device, 0, there);
    device->swapIn(0, there, [&] { ++copied; });
    for (int slot = 1; slot < 4; ++slot) device->swapOut(slot, [&] { ++copied; });
  }
  test::equal(copied.load(), 4, "copies that were finished before the end");
}

TEST("device: a step's time is divided among its operators") {
  const test::TinyModel model(unevenLlama(), 17);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  for (int slot = 0; slot < 2; ++slot) {
    device->openSlot(slot, SlotOptions{});
    device->kv().reserve(slot, 64);
  }
  const auto spent = [&](const Step& step) {
    const StepResult result = run(*device, 0, step);
    double sum = 0;
    const OpSeconds byClass = result.seconds.byClass.value();
    for (const double seconds : byClass) sum += seconds;
    test::near(sum, result.seconds.total, 1e-12, "the sum of the classes");
    test::isTrue(byClass[0] > 0 && byClass[3] > 0, "every step has matmuls and others");
    return std::pair{byClass[1] > 0, byClass[2] > 0};
  };
  const std::pair prefill{true, false}, decode{false, true}, both{true, true};
  test::isTrue(spent({{0, 1}, {2, 3}, {1, 2, 3, 4, 5}, {0, kWantSample}}) == prefill, "a step of prompts");
  test::isTrue(spent({{0, 1}, {1, 0}, {1}, {0, kWantSample}}) == decode, "a step of single tokens");
  test::isTrue(spent({{0, 1}, {1, 2}, {1, 2, 3}, {0, 0}}) == both, "a step of both");
}

TEST("device: entries of one token and of several share a step without changing a bit") {
  const test::TinyModel model(unevenLlama(), 18);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 40; ++i) tokens.push_back(i * 31 % 90);
  const std::vector<float> expected = logitsOf(*device, tokens, 128);
  for (int slot = 0; slot < 3; ++slot) {
    device->openSlot(slot, SlotOptions{});
    device->kv().reserve(slot, 64);
  }
  const std::vector<std::int32_t> most(tokens.begin(), tokens.end() - 1);
  run(*device, 0, {{0}, {39}, most, {0}});
  run(*device, 0, {{2}, {39}, most, {0}});
  std::vector<std::int32_t> mixed{tokens.back()};
  mixed.insert(mixed.end(), tokens.begin(), tokens.end());
  mixed.push_back(tokens.back());
  const StepResult result =
      run(*device, 0, {{0, 1, 2}, {1, 40, 1}, mixed, {kWantLogits, kWantLogits, kWantLogits}});
  for (const EntryResult& entry : result.entries) {
    test::isTrue(std::memcmp(entry.logits.data(), expected.data(), expected.size() * sizeof(float)) == 0,
                 "logits of an entry in a mixed step");
  }
}

TEST("device: a failed step fails alone") {
  const test::TinyModel model(unevenLlama(), 13);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  device->openSlot(0, SlotOptions{});
  device->kv().reserve(0, 32);
  device->partition(0);
  std::promise<std::exception_ptr> failed;
  device->run(0, {{0}, {1}, {1}, {0}},
              [&](StepResult, std::exception_ptr error) { failed.set_value(error); });
  test::isTrue(failed.get_future().get() != nullptr, "a lane without units fails its step");
  test::equal(device->kv().length(0), std::int64_t{0}, "tokens after the failed step");
  test::equal(run(*device, 0, {{0}, {1}, {1}, {0}}).entries.size(), std::size_t{1},
              "entries of the next step");
}

TEST("device: weights that are not numbers are refused where asked") {
  const ModelSpec spec = unevenLlama();
  const test::TinyModel model(spec, 14);
  std::FILE* file = std::fopen(model.path().c_str(), "r+b");
  const TensorEntry& last = model.tensors().back();
  std::fseek(file, static_cast<long>(last.begin) + 8, SEEK_SET);
  const float nan = NAN;
  std::fwrite(&nan, sizeof nan, 1, file);
  std::fclose(file);
  DeviceOptions options;
  options.spec = spec;
  options.files = {model.path()};
  options.tensors = model.tensors();
  options.weights.checkFinite = true;
  options.kvBytes = 1 << 20;
  options.slots = 1;
  options.maxStepTokens = 32;
  test::throws([&] { Device(makeCpuBackend(1), std::move(options)); }, "lm_head.weight holds NaN at [0, 2]");
}

TEST("device: a model in fp8 without its scales, or with too few, is refused by name") {
  const test::TinyModel model(unevenLlama(), 14, test::TinyModel::Stored::fp8);
  const auto refused = [&](auto change, const char* why) {
    DeviceOptions options = optionsFor(model);
    TensorEntry& query = options.tensors[2];
    change(query);
    test::throws([&] { Device(makeCpuBackend(1), std::move(options)); }, why);
  };
  refused([](TensorEntry& query) { query.scales.reset(); }, "q_proj.weight is in fp8 and has no scales");
  refused([](TensorEntry& query) { query.scales->end -= 4; }, "have 44 bytes, expected 48");
  refused([](TensorEntry& query) { query.scales->end += 1 << 30; }, "the scales of model.layers.0.self_attn");
  refused([](TensorEntry& query) { query.scales->blockRows = 0; }, "must be floats of blocks");
}

TEST("device: a sparse entry's rows see what they would see had the other pages been given up") {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 128; ++i) tokens.push_back(i * 29 % 90);
  const std::vector<std::int32_t> first(tokens.begin(), tokens.begin() + 96);
  const std::vector<std::int32_t> rest(tokens.begin() + 96, tokens.end());
  const auto step = [&](int slot, std::vector<SparseEntry> sparse) {
    return Step{{slot}, {32}, rest, {kWantLogits}, {}, std::move(sparse)};
  };
  const test::TinyModel model(unevenLlama(), 22);
  for (const Isa isa : availableIsas()) {
    const auto device = open(model, WeightClass::bf16, isa);
    for (const int slot : {0, 1, 2}) {
      device->openSlot(slot, SlotOptions{});
      device->kv().reserve(slot, 128);
      run(*device, 0, {{slot}, {96}, first, {0}});
    }
    test::throws([&] { run(*device, 0, step(0, {{0, 4, std::vector<std::uint8_t>(8)}})); }, "other pages");
    test::throws([&] { run(*device, 0, step(0, {{0, 3, std::vector<std::uint8_t>(5)}})); }, "other pages");
    test::throws([&] { run(*device, 0, step(0, {{1, 0, {}}})); }, "out of order");
    // Page 1 in layer 0 and pages 0 and 1 in layer 1 are not seen; page 2 is not told of.
    const StepResult sparse = run(*device, 0, step(0, {{0, 2, {1, 0, 0, 0}}}));
    test::isTrue(convert(*device, 1, 1, 2, PrecisionClass::none, 0), "room");
    test::isTrue(convert(*device, 1, 0, 2, PrecisionClass::none, 1), "room");
    const StepResult given = run(*device, 0, step(1, {}));
    test::isTrue(sparse.entries[0].logits == given.entries[0].logits, isaName(isa));
    const StepResult dense = run(*device, 0, step(2, {}));
    test::isTrue(sparse.entries[0].logits != dense.entries[0].logits, "what is not seen matters");
    for (const int slot : {0, 1, 2}) device->closeSlot(slot);
  }
}
