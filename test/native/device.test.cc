#include "model/device.h"

#include <cstring>
#include <future>

#include "check.h"
#include "cpu/cpu-backend.h"
#include "tiny-model.h"

using namespace tandem;

namespace {

ModelSpec llama() {
  ModelSpec spec;
  spec.layers = 2;
  spec.hidden = 96;
  spec.heads = 6;
  spec.kvHeads = 2;
  spec.headDim = 16;
  spec.ffn = 130;
  spec.vocab = 90;
  spec.slidingWindow = {0, 0};
  for (int i = 0; i < 8; ++i)
    spec.rope.inverseFrequencies.push_back(std::pow(10000.0f, -static_cast<float>(i) / 8));
  return spec;
}

struct Family {
  const char* name;
  ModelSpec spec;
};

std::vector<Family> families() {
  std::vector<Family> all{{"llama, grouped query heads", llama()}};
  ModelSpec mha = llama();
  mha.kvHeads = 6;
  mha.tiedEmbeddings = true;
  mha.outputBias = mha.attentionBias = mha.mlpBias = true;
  all.push_back({"llama, one key head a query head, tied, every bias", mha});
  ModelSpec qwen2 = llama();
  qwen2.attentionBias = true;
  all.push_back({"qwen2: biases on q, k and v", qwen2});
  ModelSpec qwen3 = llama();
  qwen3.qkNorm = true;
  qwen3.headDim = 32;  // apart from hidden / heads
  qwen3.rope.inverseFrequencies.resize(16, 0.01f);
  all.push_back({"qwen3: norms on q and k, its own head dimension", qwen3});
  ModelSpec mistral = llama();
  mistral.slidingWindow = {7, 0};
  all.push_back({"mistral: a window in one layer", mistral});
  ModelSpec yarn = llama();
  yarn.rope.attentionFactor = 1.2f;
  all.push_back({"yarn's attention factor", yarn});
  return all;
}

std::unique_ptr<Device> open(const test::TinyModel& model, WeightClass weightClass, Isa isa,
                             PrecisionClass kv = PrecisionClass::bf16) {
  DeviceOptions options;
  options.spec = model.spec();
  options.files = {model.path()};
  options.tensors = model.tensors();
  options.weights.weightClass = weightClass;
  options.kvPrecision = kv;
  options.kvBytes = 4 << 20;
  options.slots = 4;
  options.maxStepTokens = 128;
  return std::make_unique<Device>(makeCpuBackend(1, isa), std::move(options));
}

StepResult run(Device& device, int lane, Step step) {
  device.partition(lane == 0 ? 1 : 0);
  std::promise<StepResult> promise;
  device.run(lane, std::move(step), [&](StepResult result, std::exception_ptr error) {
    if (error) {
      promise.set_exception(error);
    } else {
      promise.set_value(std::move(result));
    }
  });
  return promise.get_future().get();
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

TEST("device: a failed step fails alone") {
  const test::TinyModel model(llama(), 13);
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
  const ModelSpec spec = llama();
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
