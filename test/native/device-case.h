#pragma once

#include <cmath>
#include <exception>
#include <future>
#include <memory>
#include <utility>

#include "cpu/cpu-backend.h"
#include "model/device.h"
#include "tiny-model.h"

namespace tandem::test {

// A small model of the Llama family whose sizes fill no vector of a processor.
inline ModelSpec unevenLlama() {
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

inline DeviceOptions optionsFor(const TinyModel& model, WeightClass weightClass = WeightClass::bf16,
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
  return options;
}

// On one core of the processor.
inline std::unique_ptr<Device> open(const TinyModel& model, WeightClass weightClass, Isa isa,
                                    PrecisionClass kv = PrecisionClass::bf16) {
  return std::make_unique<Device>(makeCpuBackend(1, isa), optionsFor(model, weightClass, kv));
}

// A callback for a step, and what becomes of it.
inline std::pair<Device::Done, std::future<StepResult>> promised() {
  const auto promise = std::make_shared<std::promise<StepResult>>();
  return {[promise](StepResult result, std::exception_ptr error) {
            if (error) {
              promise->set_exception(error);
            } else {
              promise->set_value(std::move(result));
            }
          },
          promise->get_future()};
}

inline std::future<StepResult> start(Device& device, int lane, Step step) {
  auto [done, result] = promised();
  device.run(lane, std::move(step), std::move(done));
  return std::move(result);
}

// Both lanes have units, or this one has the only one.
inline StepResult run(Device& device, int lane, Step step) {
  const int units = device.backend().units();
  device.partition(units == 1 ? 1 - lane : units / 2);
  return start(device, lane, std::move(step)).get();
}

}  // namespace tandem::test
