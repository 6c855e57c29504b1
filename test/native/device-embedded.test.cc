// Sequences some of whose tokens stand for rows of their own. A row that is the embedding of another token
// must do what that token does, bit for bit, whatever way the sequence takes through the device.

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/cpu-backend.h"
#include "device-case.h"
#include "model/device.h"
#include "tiny-model.h"

using namespace tandem;
using namespace tandem::test;

namespace {

using Tokens = std::vector<std::int32_t>;

constexpr int kImageToken = 3;

ModelSpec reader() {
  ModelSpec spec = unevenLlama();
  spec.readsImages = true;
  return spec;
}

// Of `tokens`, with other ones in their place.
EmbeddedRows rowsOf(const TinyModel& model, const Tokens& tokens, std::int64_t begin, std::int64_t end) {
  EmbeddedRows run{begin, {}};
  for (std::int64_t i = begin; i < end; ++i) {
    const std::vector<float> row = model.embeddingOf(tokens[static_cast<std::size_t>(i)]);
    run.values.insert(run.values.end(), row.begin(), row.end());
  }
  return run;
}

// The same sequence, told in two ways: by its tokens alone, and with runs of them as rows.
struct Told {
  Tokens tokens;
  std::vector<EmbeddedRows> embedded;
};

Tokens textOf(std::int64_t count) {
  Tokens tokens;
  for (std::int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<std::int32_t>(i * 37 % 90));
  return tokens;
}

Told asRows(const TinyModel& model, const Tokens& tokens,
            const std::vector<std::pair<std::int64_t, std::int64_t>>& runs) {
  Told told{tokens, {}};
  for (const auto& [begin, end] : runs) {
    told.embedded.push_back(rowsOf(model, tokens, begin, end));
    std::fill(told.tokens.begin() + begin, told.tokens.begin() + end, kImageToken);
  }
  return told;
}

void openSlot(Device& device, int slot, const Told& told) {
  SlotOptions options;
  options.embedded = told.embedded;
  device.openSlot(slot, std::move(options));
  isTrue(device.kv().reserve(slot, static_cast<std::int64_t>(told.tokens.size())), "there is room");
}

// Appends tokens [begin, end) in chunks, lanes taking turns: the logits behind the last.
std::vector<float> append(Device& device, int slot, const Told& told, std::int64_t begin, std::int64_t end,
                          std::int64_t chunk) {
  StepResult result;
  for (std::int64_t at = begin; at < end; at += chunk) {
    const Tokens part(told.tokens.begin() + at, told.tokens.begin() + std::min(end, at + chunk));
    result = run(device, at % 2, {{slot}, {static_cast<std::int32_t>(part.size())}, part, {kWantLogits}});
  }
  return result.entries[0].logits;
}

std::vector<float> logitsOf(Device& device, const Told& told, std::int64_t chunk) {
  openSlot(device, 0, told);
  auto logits = append(device, 0, told, 0, static_cast<std::int64_t>(told.tokens.size()), chunk);
  device.closeSlot(0);
  return logits;
}

void expectSame(const std::vector<float>& actual, const std::vector<float>& expected,
                const std::string& what) {
  test::equal(actual.size(), expected.size(), what);
  isTrue(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)) == 0, what);
}

}  // namespace

TEST("embedded rows: those of other tokens do what these do, in any chunks and beside others") {
  const TinyModel model(reader(), 61);
  const auto device = open(model, WeightClass::int8, availableIsas().front());
  const Tokens text = textOf(70);
  const Told plain{text, {}}, told = asRows(model, text, {{0, 3}, {9, 41}, {41, 44}, {69, 70}});
  const std::vector<float> expected = logitsOf(*device, plain, 128);
  for (const std::int64_t chunk : {1, 5, 33, 128}) {
    expectSame(logitsOf(*device, told, chunk), expected, "chunks of " + std::to_string(chunk));
  }
  // In one step with a sequence that has none: its rows are its own.
  openSlot(*device, 0, told);
  openSlot(*device, 1, plain);
  Tokens both = plain.tokens;
  both.resize(40);
  both.insert(both.end(), told.tokens.begin(), told.tokens.end());
  const StepResult result = run(*device, 0, {{1, 0}, {40, 70}, both, {kWantLogits, kWantLogits}});
  expectSame(result.entries[1].logits, expected, "beside another");
  device->closeSlot(0);
  device->closeSlot(1);
  expectSame(result.entries[0].logits, logitsOf(*device, {Tokens(text.begin(), text.begin() + 40), {}}, 128),
             "the one beside it");
}

TEST("embedded rows: a float64 decoder makes the same of rows that no token has") {
  const TinyModel model(reader(), 62);
  const Tokens text = textOf(30);
  Told told{text, {{7, {}}}};
  std::vector<std::vector<double>> rows;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::vector<float> row = model.embeddingOf(text[i]);
    rows.emplace_back(row.begin(), row.end());
    if (i < 7 || i >= 19) continue;
    for (std::size_t k = 0; k < row.size(); ++k) {
      const auto value = static_cast<float>(static_cast<int>((i * 31 + k * 17) % 23) - 11) / 8;
      rows.back()[k] = value;
      told.embedded[0].values.push_back(value);
    }
  }
  const std::vector<double> expected = model.logitsOfRows(rows);
  for (const Isa isa : availableIsas()) {
    const auto device = open(model, WeightClass::bf16, isa);
    const std::vector<float> logits = logitsOf(*device, told, 11);
    double error = 0, size = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      error += std::pow(logits[i] - expected[i], 2);
      size += std::pow(expected[i], 2);
    }
    isTrue(std::sqrt(error / size) < 0.03, std::string(isaName(isa)) + ": relative rms error");
  }
}

TEST("embedded rows: their places count from the sequence's start behind cached, dropped and swapped ones") {
  const TinyModel model(reader(), 63);
  DeviceOptions options = optionsFor(model);
  options.selection = PageSelection{1, 2, false};
  options.maxSequenceTokens = 512;
  Device device(makeCpuBackend(1), std::move(options));
  constexpr std::int64_t kPages = 6, kRead = kPages * kPageTokens, kEnd = kRead + 24;
  const Tokens text = textOf(kEnd);
  const auto behind = [&](const Told& told) {
    openSlot(device, 0, told);
    append(device, 0, told, 0, kRead, 100);
    std::promise<void> converted;
    const std::vector<PrecisionClass> classes(4 * static_cast<std::size_t>(device.spec().layers),
                                              PrecisionClass::int4);
    isTrue(device.convert(0, 1, 5, classes, [&] { converted.set_value(); }), "room");
    converted.get_future().get();
    device.finishConversion(0);
    device.drop(0, 1, 2);
    append(device, 0, told, kRead, kRead + 8, 8);
    std::promise<void> out, in;
    const SwapId id = device.swapOut(0, [&] { out.set_value(); });
    out.get_future().get();
    device.finishSwap(0);
    isTrue(device.swapIn(0, id, [&] { in.set_value(); }), "room to come back");
    in.get_future().get();
    device.finishSwap(0);
    isTrue(device.kv().reserve(0, kEnd - kPageTokens), "there is room");
    auto logits = append(device, 0, told, kRead + 8, kEnd, 5);
    device.closeSlot(0);
    return logits;
  };
  expectSame(behind(asRows(model, text, {{20, 30}, {kRead - 2, kRead + 3}, {kRead + 6, kRead + 19}})),
             behind({text, {}}), "dropped and swapped");

  // A slot that starts with another's blocks computes what comes behind them only.
  const Told told = asRows(model, text, {{20, kPageTokens + 40}});
  Device plain(makeCpuBackend(1), optionsFor(model));
  openSlot(plain, 0, told);
  const std::vector<float> expected = append(plain, 0, told, 0, kEnd, 128);
  std::vector<std::int32_t> blocks;
  for (int block = 0; block < 2; ++block) blocks.push_back(plain.kv().publish(0, block));
  SlotOptions second;
  second.embedded = told.embedded;
  plain.openSlot(1, std::move(second));
  plain.kv().attach(1, blocks);
  isTrue(plain.kv().reserve(1, kEnd), "there is room");
  expectSame(append(plain, 1, told, 2 * kPageTokens, kEnd, 9), expected, "behind a cached prefix");
  plain.kv().unpublish(blocks);
}

TEST("embedded rows: a slot with rows that are not the model's is refused") {
  const TinyModel model(reader(), 64), blind(unevenLlama(), 64);
  const auto device = open(model, WeightClass::bf16, availableIsas().front());
  const auto opening = [&](Device& on, std::vector<EmbeddedRows> embedded) {
    return [&on, embedded = std::move(embedded)] {
      SlotOptions options;
      options.embedded = embedded;
      on.openSlot(0, std::move(options));
    };
  };
  const std::vector<float> two(2 * 96);
  test::throws(opening(*device, {{4, std::vector<float>(95)}}), "95 values, expected some rows of 96");
  test::throws(opening(*device, {{4, {}}}), "0 values");
  test::throws(opening(*device, {{4, two}, {5, two}}), "overlap");
  test::throws(opening(*device, {{-1, two}}), "out of order");
  const auto other = open(blind, WeightClass::bf16, availableIsas().front());
  test::throws(opening(*other, {{4, two}}), "a model of text alone");
  opening(*device, {{4, two}, {6, two}})();
}
