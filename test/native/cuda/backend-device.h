#pragma once

// Tiny models on the backend, on a device or emulated, whose slots tests fill step by step.

#include <cmath>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "cuda/cuda-backend.h"
#include "device-case.h"
#include "model/device.h"

namespace tandem::test {

inline ModelSpec llama() {
  ModelSpec spec;
  spec.layers = 2;
  spec.hidden = 64;
  spec.heads = 4;
  spec.kvHeads = 2;
  spec.headDim = 32;
  spec.ffn = 96;
  spec.vocab = 90;
  spec.slidingWindow = {0, 0};
  for (int i = 0; i < 16; ++i)
    spec.rope.inverseFrequencies.push_back(std::pow(10000.0f, -static_cast<float>(i) / 16));
  return spec;
}

struct Family {
  const char* name;
  ModelSpec spec;
};

inline std::vector<Family> families() {
  std::vector<Family> all{{"llama, grouped query heads", llama()}};
  ModelSpec mha = llama();
  mha.kvHeads = 4;
  mha.tiedEmbeddings = true;
  mha.outputBias = mha.attentionBias = mha.mlpBias = true;
  all.push_back({"llama, one key head a query head, tied, every bias", mha});
  ModelSpec qwen3 = llama();
  qwen3.qkNorm = true;
  qwen3.headDim = 64;  // apart from hidden / heads
  qwen3.rope.inverseFrequencies.resize(32, 0.01f);
  all.push_back({"qwen3: norms on q and k, its own head dimension", qwen3});
  ModelSpec mistral = llama();
  mistral.slidingWindow = {7, 0};
  mistral.attentionBias = true;  // as qwen2
  all.push_back({"mistral: a window in one layer; qwen2: biases on q, k and v", mistral});
  return all;
}

inline std::unique_ptr<Device> open(const TinyModel& model, WeightClass weightClass = WeightClass::bf16,
                                    PrecisionClass kv = PrecisionClass::bf16) {
  return std::make_unique<Device>(cuda::makeCudaBackend({}), optionsFor(model, weightClass, kv));
}

inline std::vector<std::int32_t> prompt(int count, int factor) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(i * factor % 90);
  return tokens;
}

inline void openSlot(Device& device, int slot, std::int64_t tokens, SlotOptions options = {}) {
  device.openSlot(slot, std::move(options));
  isTrue(device.kv().reserve(slot, tokens), "there is room for " + std::to_string(tokens));
}

// Runs the tokens in chunks, lanes taking turns, and returns the logits behind the last.
inline std::vector<float> append(Device& device, int slot, const std::vector<std::int32_t>& tokens,
                                 std::size_t chunk) {
  StepResult result;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const std::size_t end = std::min(tokens.size(), begin + chunk);
    const std::vector<std::int32_t> part(tokens.begin() + begin, tokens.begin() + end);
    result = run(device, begin / chunk % 2,
                 {{slot}, {static_cast<std::int32_t>(part.size())}, part, {kWantLogits}});
  }
  return result.entries[0].logits;
}

inline std::vector<float> logitsOf(Device& device, const std::vector<std::int32_t>& tokens,
                                   std::size_t chunk = 128) {
  openSlot(device, 0, static_cast<std::int64_t>(tokens.size()));
  const std::vector<float> logits = append(device, 0, tokens, chunk);
  device.closeSlot(0);
  return logits;
}

template <class T>
double relativeError(const std::vector<float>& actual, const std::vector<T>& expected) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(actual[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  return std::sqrt(error / size);
}

inline void expectSame(const std::vector<float>& actual, const std::vector<float>& expected,
                       const std::string& what) {
  test::equal(actual.size(), expected.size(), what);
  isTrue(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)) == 0, what);
}

// Writes the full blocks [begin, end) of a slot again: classes [end - begin, layers]. False if memory is out.
inline bool convert(Device& device, int slot, std::int64_t begin, std::int64_t end,
                    const std::vector<PrecisionClass>& classes) {
  std::promise<void> converted;
  if (!device.convert(slot, begin, end, classes, [&] { converted.set_value(); })) return false;
  converted.get_future().get();
  device.finishConversion(slot);
  return true;
}

// Gives the device a vocabulary in which token 0 ends an answer and each other one is a letter of a to e, and
// returns the grammar (ab)*.
inline std::shared_ptr<Grammar> lettersInTurn(Device& device) {
  TokenBytes tokens;
  tokens.special = tokens.endTokens = {0};
  tokens.begins = {0, 1};
  tokens.bytes = {'.'};
  for (std::int32_t token = 1; token < 90; ++token) {
    tokens.bytes.push_back(static_cast<std::uint8_t>('a' + token % 5));
    tokens.begins.push_back(token + 1);
  }
  GrammarTables tables;
  tables.byteClasses.assign(256, 0);
  tables.byteClasses['a'] = 1;
  tables.byteClasses['b'] = 2;
  tables.next = {-1, 1, -1, -1, -1, 0};
  tables.callBegins = {0, 0, 0};
  tables.accepting = {1, 0};
  tables.ruleStarts = {0};
  device.setVocabulary(std::move(tokens));
  return device.makeGrammar(std::move(tables));
}

}  // namespace tandem::test
