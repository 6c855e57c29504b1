#pragma once

#include <memory>
#include <vector>

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/attention/attention.h"
#include "cpu/isa.h"
#include "cpu/matmul/matmul.h"
#include "cpu/op-timer.h"
#include "cpu/rope.h"
#include "cpu/sampling/sampler.h"

namespace tandem::cpu {

// The ops of one lane over float32 activations, done by the lane's team when they are called; nothing is
// enqueued.
class CpuOps final : public Ops {
 public:
  CpuOps(Isa isa, ThreadTeam& team, int maxTeam);

  void begin(const StepPlan& plan) override;
  void lap(OperatorClass of) override { timer_.lap(of); }
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
  void submit() override {}
  StepSeconds finish() override;

 private:
  // body(row, sampler) for every row; an error in one is thrown here, the first row's first.
  template <class Body>
  void eachRow(std::int64_t rows, Body&& body);

  const Isa isa_;
  ThreadTeam& team_;
  Workspace matmulWorkspace_;
  AttentionWorkspace attentionWorkspace_;
  RopeAngles angles_;
  std::vector<Sampler> samplers_;  // one a thread
  OpTimer timer_;
};

}  // namespace tandem::cpu
