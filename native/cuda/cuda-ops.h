#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cuda/device-copies.h"
#include "cuda/matmul.h"
#include "cuda/page-converter.h"
#include "cuda/page-tables.h"
#include "cuda/runtime.h"
#include "cuda/saliency-sums.h"
#include "cuda/sample.h"
#include "cuda/slot-tables.h"
#include "cuda/staged-rows.h"
#include "cuda/step-graphs.h"
#include "cuda/step-layout.h"
#include "cuda/steps-in-flight.h"

namespace tandem::cuda {

// The ops of one lane over bf16 activations: each is a launch on the lane's stream. Nothing waits but what
// brings results back: `logprobs`, `readRow`, `submit` of a step with probes, and `finish`.
//
// A step may be enqueued while the one before it runs. They share all memory of the device, since the stream
// runs them one after the other; what the host writes for a step, or reads of it, is there for each of the
// two.
class CudaOps final : public Ops {
 public:
  // Of a lane of this device. The tables and the copies are shared by the lanes and outlive them.
  CudaOps(int device, const LaneLimits& limits, SlotTables& tables, const DeviceCopies& copies);

  // The next step runs on this stream, which has so many SMs.
  void enter(Stream stream, int sms);
  // The step is over: waits for what it has left on the stream if it failed before it was submitted.
  void leave() noexcept;

  void begin(const StepPlan& plan) override;
  void lap(OperatorClass of) override { steps_.timer().lap(of, stream_); }
  void embed(std::span<const std::int32_t> tokens, const CheckpointMatrix& table, Tensor x) override;
  void rmsNorm(Tensor x, std::span<const float> gain, float eps, Tensor out) override;
  void linear(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) override;
  void linearAdd(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) override;
  void linearSwiGlu(Tensor x, const Weight& gateUp, std::span<const float> bias, Tensor y) override;
  void appendKv(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                const AttentionShape& shape, const RopeTable& rope, std::span<const float> qGain,
                std::span<const float> kGain, float eps) override;
  void attention(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                 const AttentionShape& shape, Tensor out) override;
  void attendPartitions(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                        std::span<const PagePartitions> partitions, const AttentionShape& shape,
                        const RopeTable& rope, Tensor out) override;
  void probe(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
             const AttentionShape& shape, std::span<const std::span<std::uint32_t>> saliency) override;
  void requantize(std::span<const PageConversion> conversions) override;
  void gatherRows(Tensor x, std::span<const std::int64_t> rows, Tensor out) override;
  void sample(Tensor logits, std::span<const SampleRequest> requests,
              std::span<SampleOutcome> outcomes) override;
  void logprobs(Tensor logits, std::span<const std::int32_t> targets, int k,
                std::span<SampleOutcome> outcomes) override;
  void readRow(Tensor x, std::int64_t row, std::span<float> out) override;
  void writeRows(Tensor x, std::int64_t row, std::span<const float> values) override;
  void submit() override;
  StepSeconds finish() override;
  bool runsAhead() const override { return true; }
  void await(std::uint64_t step) override;

 private:
  void chooseTurn(bool writesRows);
  bool isReplayed() const { return turn_ == StepGraphs::Turn::replay; }
  void endLayers();
  void multiply(Tensor x, const Weight& w, std::span<const float> bias, Tensor y, Epilogue epilogue);
  PageTables tablesOf(const KvView& view, const std::int32_t* slots) const;
  void gatherSeen(const KvView& view, bool closesUp);

  const int device_;
  const LaneLimits limits_;
  SlotTables& slotTables_;
  const DeviceCopies& copies_;
  Stream stream_ = nullptr;
  int sms_ = 0;
  StepsInFlight steps_;
  DeviceSampler sampler_;
  DeviceMemory angles_;  // [rows, headDim] float
  DeviceMemory parts_;   // of decode attention and of probes
  SaliencySums sums_;
  StepLayout layout_;
  DeviceMemory gathered_;  // [slots, slotStride] entries
  DeviceMemory turns_;     // [turns, headDim] float
  DeviceMemory partitionScratch_;
  PinnedMemory hostRow_;
  StagedRows staged_;
  PageConverter converter_;

  StepArrays step_;
  bool hasAngles_ = false, hasTurns_ = false;
  // Whether the layers of the step are launched one kernel after another or as a graph.
  StepGraphs graphs_;
  StepGraphs::Turn turn_ = StepGraphs::Turn::run;
  std::vector<std::span<std::uint32_t>> probeSums_;  // kept, so that a step allocates nothing
};

}  // namespace tandem::cuda
