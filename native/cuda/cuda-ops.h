#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cuda/append-kv.h"
#include "cuda/device-copies.h"
#include "cuda/matmul.h"
#include "cuda/page-converter.h"
#include "cuda/page-tables.h"
#include "cuda/partition-plan.h"
#include "cuda/prefill-attention.h"
#include "cuda/probe-plan.h"
#include "cuda/runtime.h"
#include "cuda/saliency-sums.h"
#include "cuda/sample.h"
#include "cuda/sight-plan.h"
#include "cuda/slot-tables.h"
#include "cuda/staged-rows.h"
#include "cuda/step-block.h"
#include "cuda/step-graphs.h"
#include "cuda/step-timer.h"
#include "cuda/update-tables.h"

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
  void lap(OperatorClass of) override { begun().timer.lap(of, stream_); }
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
  // What of a step's plan lies on the device, in the step's block.
  struct Step {
    std::int64_t rows = 0;
    std::size_t entries = 0;
    std::int32_t* tokens = nullptr;           // [rows]
    const std::int32_t* positions = nullptr;  // [rows]
    const std::int32_t* slots = nullptr;      // [entries]
    const std::int32_t* carried = nullptr;    // [rows], or null
    const KvPiece* pieces = nullptr;
    int longestPiece = 0;
    // Of entries with several tokens that are not in partitions; `sequence` counts all entries.
    const QueryTile* tiles = nullptr;
    std::size_t severals = 0;
    const std::int32_t* singleSlots = nullptr;  // of such entries with one token, as the next two
    const std::int32_t* singleRows = nullptr;
    const std::int32_t* contexts = nullptr;
    const ProbeTile* probes = nullptr;
    const PartitionedRow* partitionedRows = nullptr;
    const std::int32_t* turns = nullptr;  // tokens by which queries are turned
    // Of a step with entries that do not look everywhere; see SightPlan. A row of the gathered table is an
    // entry's.
    const SeenRow* seenRows = nullptr;
    const SeenWord* seenWords = nullptr;
    const QueryTile* closedTiles = nullptr;
    const std::int32_t* closedContexts = nullptr;
    const std::int32_t* rowsOfEntries = nullptr;  // [entries]
    const std::int32_t* rowsOfSingles = nullptr;  // [singles]
  };

  // What of a step is the host's.
  struct Flight {
    explicit Flight(int layers) : timer(layers) {}
    StepTimer timer;
    SampleTransfer samples;
    Event done;
  };

  struct Single {
    std::int32_t slot, row, entry;
  };
  struct Group {
    int first, count, mostTokens;
  };

  Flight& begun() { return flights_[submitted_ % flights_.size()]; }
  void collectUpdates(std::span<const KvTable> tables);
  void layOut(const StepPlan& plan);
  void groupSingles();
  void layOutProbes(const StepPlan& plan);
  void layOutSight(const StepPlan& plan);
  void layOutPartitions(const StepPlan& plan);
  void layOutCarried(const StepPlan& plan);
  template <class T>
  const T* add(const std::vector<T>& values);
  void sendBlock();
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
  std::array<Flight, 2> flights_;
  std::uint64_t submitted_ = 0, finished_ = 0;
  bool isOpen_ = false;                     // a step that has begun and is not submitted
  StepTimer::Clock::time_point lastEnd_{};  // of the step finished last
  StepBlock block_;
  DeviceSampler sampler_;
  DeviceMemory angles_;  // [rows, headDim] float
  DeviceMemory parts_;   // of decode attention and of probes
  SaliencySums sums_;
  ProbePlan probes_;
  SightPlan sight_;
  DeviceMemory gathered_;  // [slots, slotStride] entries
  PartitionPlan partitions_;
  DeviceMemory turns_;  // [turns, headDim] float
  DeviceMemory partitionScratch_;
  PinnedMemory hostRow_;
  StagedRows staged_;
  PageConverter converter_;

  Step step_;
  bool hasAngles_ = false, hasTurns_ = false;
  // Whether the layers of the step are launched one kernel after another or as a graph.
  StepGraphs graphs_;
  StepGraphs::Turn turn_ = StepGraphs::Turn::run;
  // Of the step, as they are uploaded; kept, so that a step allocates nothing.
  std::vector<KvPiece> pieces_;
  std::vector<QueryTile> tiles_;
  std::vector<Single> singles_;
  std::vector<std::int32_t> contexts_;
  std::vector<Group> groups_;
  std::vector<std::span<std::uint32_t>> probeSums_;
  std::vector<SightPlan::Single> ofSingles_;
  std::vector<TableUpdate> updates_;
  std::vector<std::uint64_t> updateValues_;
};

}  // namespace tandem::cuda
