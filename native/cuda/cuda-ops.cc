#include "cuda/cuda-ops.h"

#include <algorithm>
#include <cstring>

#include "core/bf16.h"
#include "core/error.h"
#include "cuda/append-kv.h"
#include "cuda/carry-tokens.h"
#include "cuda/decode-attention.h"
#include "cuda/embed.h"
#include "cuda/gather-pages.h"
#include "cuda/gather-rows.h"
#include "cuda/partition-attention.h"
#include "cuda/prefill-attention.h"
#include "cuda/probe.h"
#include "cuda/rms-norm.h"
#include "cuda/rope-angles.h"

namespace tandem::cuda {
namespace {

// Sums of probes that wait for the end of a step: 8192 tokens of 128 sequences in 32 layers.
constexpr std::size_t kSums = std::size_t{1} << 20;

constexpr int kMostHidden = 16384;  // that rmsNorm takes

bf16* elements(Tensor x) { return static_cast<bf16*>(x.data); }

// Of decode attention and of probes, which use them in turn.
std::size_t partsBytes(const LaneLimits& limits) {
  const AttentionShape& shape = limits.attention;
  const int most = EntryPlan::roundedContext(limits.slotPages * kPageTokens);
  const std::size_t probed =
      probeScratch(1, probeTileTokens(shape.heads, shape.kvHeads), most, shape.heads, shape.kvHeads);
  return std::max(probed, EntryPlan::partsBytes(limits));
}

}  // namespace

CudaOps::CudaOps(int device, const LaneLimits& limits, SlotTables& tables, const DeviceCopies& copies)
    : device_(device),
      limits_(limits),
      slotTables_(tables),
      copies_(copies),
      steps_(limits.layers),
      sampler_(limits.vocab, static_cast<int>(limits.logitRows)),
      angles_(static_cast<std::size_t>(limits.rows) * limits.attention.headDim * sizeof(float),
              "rope angles; lower the tokens of a step"),
      parts_(partsBytes(limits), "attention's parts"),
      sums_(std::max(kSums, static_cast<std::size_t>(limits.slotPages))),
      layout_(limits, tables, parts_.bytes(), sums_.room()),
      gathered_(static_cast<std::size_t>(limits.slots) * static_cast<std::size_t>(tables.slotStride()) *
                    sizeof(std::uint64_t),
                "page tables of sparse prefill; lower the longest sequence or the number of sequences"),
      turns_(static_cast<std::size_t>(PartitionPlan::mostTurns(limits)) * limits.attention.headDim *
                 sizeof(float),
             "turns of queries; lower --pack-mid-tokens"),
      partitionScratch_(PartitionPlan::scratchBytes(limits),
                        "attention to partitions; lower --pack-mid-tokens or --pack-top-pages"),
      hostRow_(static_cast<std::size_t>(std::max(limits.vocab, kMostHidden)) * sizeof(float),
               "a row of logits"),
      staged_(limits.writtenRows, limits.hidden) {}

void CudaOps::enter(Stream stream, int sms) {
  stream_ = stream;
  sms_ = sms;
}

void CudaOps::leave() noexcept {
  if (!steps_.isOpen()) return;
  graphs_.abandon();
  steps_.abandon();
  try {
    synchronize(stream_);
  } catch (const Error&) {
    // The step has failed already, and its error is on its way.
  }
}

void CudaOps::begin(const StepPlan& plan) {
  check(static_cast<std::int64_t>(plan.tokens.size()) <= limits_.rows &&
            plan.entries.size() <= static_cast<std::size_t>(limits_.slots),
        "a step has more tokens or sequences than the lane was opened for");
  steps_.begin(static_cast<std::int64_t>(plan.tokens.size()), stream_);
  staged_.clear();
  sums_.clear();
  hasAngles_ = hasTurns_ = false;
  step_ = layout_.layOut(plan, stream_);
  if (step_.carried) carryTokens({step_.carried, sampler_.tokens(), step_.tokens, step_.rows}, stream_);
  chooseTurn(plan.writesRows);
}

// Steps of single tokens only: those repeat.
void CudaOps::chooseTurn(bool writesRows) {
  turn_ = StepGraphs::Turn::run;
  const EntryPlan& entries = layout_.entries();
  if (entries.severals() > 0 || entries.groups().size() > 1 || steps_.timer().isMeasuring()) return;
  if (!layout_.sight().empty() || !layout_.probes().empty() || writesRows) return;
  StepGraphs::Kind kind{stream_};
  if (!entries.groups().empty()) {
    kind.sequences = entries.groups()[0].count;
    kind.mostTokens = entries.groups()[0].mostTokens;
  }
  if (const PartitionPlan& partitions = layout_.partitions(); !partitions.empty()) {
    if (partitions.groups().size() > 1 || partitions.groups()[0].ofSeveral) return;
    kind.partitions = partitions.groups()[0].sizes;
  }
  turn_ = graphs_.next(kind);
  if (turn_ == StepGraphs::Turn::record) graphs_.begin();
}

// The layers are done with; what follows differs from step to step.
void CudaOps::endLayers() {
  if (turn_ == StepGraphs::Turn::run) return;
  turn_ = StepGraphs::Turn::run;
  graphs_.end();
}

void CudaOps::embed(std::span<const std::int32_t> tokens, const CheckpointMatrix& table, Tensor x) {
  check(
      static_cast<std::int64_t>(tokens.size()) == step_.rows && x.rows >= step_.rows && x.cols == table.cols,
      "embed: the activations do not fit the step's tokens and the table");
  if (isReplayed()) return;
  cuda::embed({copies_.of(table), step_.tokens, elements(x), step_.rows, static_cast<int>(x.cols)}, stream_);
}

void CudaOps::rmsNorm(Tensor x, std::span<const float> gain, float eps, Tensor out) {
  check(out.rows == x.rows && out.cols == x.cols && static_cast<std::int64_t>(gain.size()) == x.cols,
        "rmsNorm: x, gain and out do not fit");
  if (isReplayed()) return;
  cuda::rmsNorm(
      {elements(x), nullptr, copies_.of(gain), elements(out), x.rows, static_cast<int>(x.cols), eps},
      stream_);
}

void CudaOps::multiply(Tensor x, const Weight& w, std::span<const float> bias, Tensor y, Epilogue epilogue) {
  const std::int64_t outputs = epilogue == Epilogue::swiGlu ? w.outputs() / 2 : w.outputs();
  check(x.rows == y.rows && x.cols == w.inputs() && y.cols == outputs, "linear: x, W and y do not fit");
  if (isReplayed()) return;
  matmul({elements(x), static_cast<const CudaWeight*>(&w), copies_.of(bias), y.data, epilogue, x.rows}, sms_,
         stream_);
}

void CudaOps::linear(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) {
  multiply(x, w, bias, y, y.element == Element::logit ? Epilogue::logits : Epilogue::store);
}

void CudaOps::linearAdd(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) {
  multiply(x, w, bias, y, Epilogue::add);
}

void CudaOps::linearSwiGlu(Tensor x, const Weight& gateUp, std::span<const float> bias, Tensor y) {
  multiply(x, gateUp, bias, y, Epilogue::swiGlu);
}

PageTables CudaOps::tablesOf(const KvView& view, const std::int32_t* slots) const {
  return {slotTables_.entriesOf(view.layer), slotTables_.slotStride(), slots, view.format};
}

void CudaOps::appendKv(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                       const AttentionShape& shape, const RopeTable& rope, std::span<const float> qGain,
                       std::span<const float> kGain, float eps) {
  check(entries.size() == step_.entries && views.size() == entries.size() && qkv.rows == step_.rows,
        "appendKv works on all entries of the step");
  if (isReplayed()) return;
  if (!hasAngles_) {
    ropeAngles({step_.positions, copies_.of(rope.inverseFrequencies), angles_.as<float>(), step_.rows,
                shape.headDim / 2, rope.attentionFactor},
               stream_);
    hasAngles_ = true;
  }
  const EntryPlan& plan = layout_.entries();
  cuda::appendKv({elements(qkv), angles_.as<float>(), step_.pieces, static_cast<int>(plan.pieces().size()),
                  plan.longestPiece(), tablesOf(views[0], step_.slots), shape.heads, copies_.of(qGain),
                  copies_.of(kGain), eps},
                 stream_);
}

void CudaOps::attention(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                        const AttentionShape& shape, Tensor out) {
  const bool several = entries[0].count > 1;
  const EntryPlan& plan = layout_.entries();
  check(
      entries.size() == (several ? plan.severals() : plan.singles().size()) && views.size() == entries.size(),
      "attention works on all entries of the step that have several tokens, or on all that have one, but "
      "for those in partitions");
  if (isReplayed()) return;
  const int layer = views[0].layer;
  // Pages of a layer with a window stay where they are, since it is counted in places.
  const bool isSparse = !layout_.sight().empty(), closesUp = isSparse && shape.window == 0;
  if (isSparse && (several || plan.severals() == 0)) gatherSeen(views[0], closesUp);
  const auto tables = [&](const std::int32_t* slots, const std::int32_t* rows) {
    PageTables all = tablesOf(views[0], slots);
    if (isSparse) {
      all.entries = gathered_.as<std::uint64_t>();
      all.slots = rows;
    }
    return all;
  };
  if (several) {
    const QueryTile* tiles = closesUp ? step_.closedTiles + layer * plan.tiles().size() : step_.tiles;
    prefillAttention({elements(qkv), tables(step_.slots, step_.rowsOfEntries), tiles,
                      static_cast<int>(plan.tiles().size()), shape.heads, shape.window, elements(out)},
                     stream_);
    return;
  }
  const std::int32_t* contexts =
      closesUp ? step_.closedContexts + layer * plan.singles().size() : step_.contexts;
  for (const EntryPlan::Group& group : plan.groups()) {
    decodeAttention(
        {elements(qkv), tables(step_.singleSlots + group.first, step_.rowsOfSingles + group.first),
         step_.singleRows + group.first, contexts + group.first, group.count, group.mostTokens, shape.heads,
         shape.window, parts_.as<float>(), elements(out)},
        stream_);
  }
}

// The rows of a table in which attention of the layer finds what the step's entries see.
void CudaOps::gatherSeen(const KvView& view, bool closesUp) {
  cuda::gatherPages(
      {tablesOf(view, step_.slots), step_.seenRows + view.layer * step_.entries, step_.seenWords,
       static_cast<int>(step_.entries), layout_.sight().mostPages(), closesUp, gathered_.as<std::uint64_t>()},
      stream_);
}

void CudaOps::attendPartitions(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                               std::span<const PagePartitions> partitions, const AttentionShape& shape,
                               const RopeTable& rope, Tensor out) {
  check(shape.window == 0, "attendPartitions: a layer with a window has no partitions");
  check(views.size() == entries.size() && partitions.size() == entries.size() && qkv.rows == step_.rows,
        "attendPartitions works on entries of the step, with a view and partitions of each");
  if (isReplayed()) return;
  if (!hasTurns_) {
    ropeAngles({step_.turns, copies_.of(rope.inverseFrequencies), turns_.as<float>(),
                static_cast<std::int64_t>(layout_.partitions().turns().size()), shape.headDim / 2, 1},
               stream_);
    hasTurns_ = true;
  }
  std::int64_t rows = 0;
  for (const EntryRows& entry : entries) rows += entry.count;
  const PartitionPlan& plan = layout_.partitions();
  for (const PartitionPlan::Group& group : plan.groups()) {
    if (group.ofSeveral != (entries[0].count > 1)) continue;
    rows -= group.sizes.rows;
    cuda::attendPartitions(
        {elements(qkv), tablesOf(views[0], step_.slots), step_.partitionedRows + group.firstRow, group.sizes,
         group.ofSeveral, shape.heads, plan.topPages(), plan.scoredPages(), turns_.as<float>(),
         partitionScratch_.data(), elements(out)},
        stream_);
  }
  check(rows == 0,
        "attendPartitions works on all entries in partitions that have several tokens, or on all that have "
        "one");
}

void CudaOps::probe(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                    const AttentionShape& shape, std::span<const std::span<std::uint32_t>> saliency) {
  const ProbePlan& plan = layout_.probes();
  check(entries.size() == plan.pages().size() && views.size() == entries.size() &&
            saliency.size() == entries.size() && qkv.rows == step_.rows,
        "probe works on all probes of the step's plan");
  for (std::size_t i = 0; i < entries.size(); ++i) {
    check(entries[i].count <= kMostProbes, "probe: an entry has too many rows");
    check(saliency[i].size() >= plan.pages()[i], "probe: an entry's sums are fewer than its pages");
  }
  for (const ProbePlan::Group& group : plan.groups()) {
    probeSums_.clear();
    for (std::size_t run = group.firstRun; run < group.firstRun + group.runs; ++run) {
      probeSums_.push_back(saliency[run].first(plan.pages()[run]));
    }
    std::uint32_t* sums = sums_.place(probeSums_, stream_);
    cuda::probe({elements(qkv), tablesOf(views[0], step_.slots), step_.probes + group.firstTile,
                 static_cast<int>(group.tiles), group.mostRows, group.mostTokens, shape.heads, shape.window,
                 parts_.as<float>(), sums},
                stream_);
  }
}

void CudaOps::requantize(std::span<const PageConversion> conversions) {
  endLayers();
  converter_.convert(conversions, stream_);
}

void CudaOps::gatherRows(Tensor x, std::span<const std::int64_t> rows, Tensor out) {
  endLayers();
  check(out.rows >= static_cast<std::int64_t>(rows.size()) && out.cols == x.cols,
        "gatherRows: out does not fit");
  for (const std::int64_t row : rows) {
    check(row >= 0 && row < x.rows, "gatherRows: a row lies outside the activations");
  }
  cuda::gatherRows({elements(x), rows, elements(out), static_cast<int>(x.cols)}, stream_);
}

void CudaOps::sample(Tensor logits, std::span<const SampleRequest> requests,
                     std::span<SampleOutcome> outcomes) {
  check(static_cast<std::int64_t>(requests.size()) <= logits.rows && requests.size() == outcomes.size(),
        "sample: one row of logits and one outcome per request expected");
  SampleTransfer& samples = steps_.samples();
  if (samples.isPending()) {
    synchronize(stream_);
    samples.report();
  }
  sampler_.sample(logits.floats(), requests, outcomes, samples, stream_);
}

void CudaOps::logprobs(Tensor logits, std::span<const std::int32_t> targets, int k,
                       std::span<SampleOutcome> outcomes) {
  check(static_cast<std::int64_t>(targets.size()) <= logits.rows && targets.size() == outcomes.size(),
        "logprobs: one row of logits and one outcome per target expected");
  sampler_.logprobs(logits.floats(), targets, k, outcomes, stream_);
}

void CudaOps::readRow(Tensor x, std::int64_t row, std::span<float> out) {
  endLayers();
  check(row >= 0 && row < x.rows && static_cast<std::int64_t>(out.size()) == x.cols,
        "readRow: the row or the output does not fit");
  check(out.size_bytes() <= hostRow_.bytes(), "readRow: the row is longer than any of the model's");
  if (x.element == Element::logit) {
    copyToHost(hostRow_.data(), x.floats() + row * x.cols, out.size_bytes(), stream_);
    synchronize(stream_);
    std::memcpy(out.data(), hostRow_.data(), out.size_bytes());
    return;
  }
  copyToHost(hostRow_.data(), elements(x) + row * x.cols, out.size() * sizeof(bf16), stream_);
  synchronize(stream_);
  std::transform(hostRow_.as<bf16>(), hostRow_.as<bf16>() + out.size(), out.begin(), toFloat);
}

void CudaOps::writeRows(Tensor x, std::int64_t row, std::span<const float> values) {
  endLayers();
  checkWritten(x, row, values);
  const std::span<bf16> staged = staged_.add(values.size());
  std::ranges::transform(values, staged.begin(), toBf16);
  copyToDevice(elements(x) + row * x.cols, staged.data(), staged.size_bytes(), stream_);
}

void CudaOps::submit() {
  endLayers();
  steps_.timer().lap(OperatorClass::other, stream_);
  sums_.bringHome(stream_);
  steps_.submit(stream_);
}

void CudaOps::await(std::uint64_t step) {
  useDevice(device_);
  steps_.await(step);
}

StepSeconds CudaOps::finish() { return steps_.finish(); }

}  // namespace tandem::cuda
