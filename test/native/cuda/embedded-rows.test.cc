// Rows that sequences bring themselves, on the backend: they go up through memory of the lane's own, behind
// the embeddings of the step's tokens.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "backend-device.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

ModelSpec reader() {
  ModelSpec spec = llama();
  spec.readsImages = true;
  return spec;
}

// Rows [begin, end) as those of their tokens, and another token in their place.
SlotOptions asRows(const TinyModel& model, std::vector<std::int32_t>& tokens, std::int64_t begin,
                   std::int64_t end) {
  EmbeddedRows run{begin, {}};
  for (std::int64_t i = begin; i < end; ++i) {
    const std::vector<float> row = model.embeddingOf(tokens[static_cast<std::size_t>(i)]);
    run.values.insert(run.values.end(), row.begin(), row.end());
    tokens[static_cast<std::size_t>(i)] = 3;
  }
  SlotOptions options;
  options.embedded = {std::move(run)};
  return options;
}

}  // namespace

TEST("cuda embedded rows: those of other tokens do what these do, in any chunks") {
  const TinyModel model(reader(), 71);
  const auto device = open(model);
  const std::vector<std::int32_t> text = prompt(40, 37);
  const std::vector<float> expected = logitsOf(*device, text);
  for (const std::size_t chunk : {9, 40}) {
    std::vector<std::int32_t> tokens = text;
    SlotOptions options = asRows(model, tokens, 5, 40);
    openSlot(*device, 0, 40, std::move(options));
    expectSame(append(*device, 0, tokens, chunk), expected, "chunks of " + std::to_string(chunk));
    device->closeSlot(0);
  }
}

TEST("cuda embedded rows: a step of single tokens that is otherwise replayed takes them too") {
  const TinyModel model(reader(), 72);
  const auto device = open(model);
  const std::vector<std::int32_t> text = prompt(24, 29);
  const std::vector<float> expected = logitsOf(*device, text);
  // The second step of a kind is recorded and later ones are replayed: neither may be one that writes rows.
  std::vector<std::int32_t> tokens = text;
  SlotOptions options = asRows(model, tokens, 1, 3);
  options.embedded.push_back(asRows(model, tokens, 20, 24).embedded[0]);
  openSlot(*device, 0, 24, std::move(options));
  std::vector<float> logits;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const StepResult result = run(*device, 1, {{0}, {1}, {tokens[i]}, {kWantLogits}});
    logits = result.entries[0].logits;
  }
  expectSame(logits, expected, "token by token on one lane");
}

TEST("cuda embedded rows: equal the processor's, beside a prompt that is scored in parts") {
  const TinyModel model(reader(), 73);
  std::vector<std::int32_t> text = prompt(60, 41), scored = prompt(40, 31);
  EmbeddedRows run{10, {}};
  for (int i = 0; i < 30 * 64; ++i) run.values.push_back(static_cast<float>(i * 29 % 31 - 15) / 8);
  const auto both = [&](Device& device) {
    SlotOptions options;
    options.embedded = {run};
    openSlot(device, 0, 60, std::move(options));
    openSlot(device, 1, 40);
    std::vector<float> values;
    for (const auto& [first, count] : {std::pair{0, 20}, {20, 20}}) {
      std::vector<std::int32_t> tokens(text.begin() + first * 3 / 2, text.begin() + (first + count) * 3 / 2);
      tokens.insert(tokens.end(), scored.begin() + first, scored.begin() + first + count);
      const StepResult result =
          test::run(device, 0, {{0, 1}, {30, 20}, tokens, {kWantLogits, kWantPromptLogprobs}});
      values = result.entries[0].logits;
      const std::vector<float>& scores = result.entries[1].prompt.logprobs;
      values.insert(values.end(), scores.begin() + 1, scores.end());
    }
    return values;
  };
  const auto device = open(model);
  Device processor(makeCpuBackend(1), optionsFor(model));
  const double apart = relativeError(both(*device), both(processor));
  isTrue(apart < 0.02, "apart from the processor by " + std::to_string(apart));
}
