#include "cuda/cuda-ops.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <string>

#include "core/bf16.h"
#include "core/error.h"
#include "cuda/carry-tokens.h"
#include "cuda/decode-attention.h"
#include "cuda/embed.h"
#include "cuda/gather-rows.h"
#include "cuda/rms-norm.h"
#include "cuda/rope-angles.h"

namespace tandem::cuda {
namespace {

// Table entries that go up at a time: the table of a sequence of 100,000 tokens in 64 layers comes in two.
constexpr std::size_t kUpdateValues = std::size_t{1} << 17;

// What spans of long contexts may take, for a batch that would need more is attended to in parts.
constexpr std::size_t kPartsBytes = std::size_t{128} << 20;

// Sums of probes that wait for the end of a step: 8192 tokens of 128 sequences in 32 layers.
constexpr std::size_t kSums = std::size_t{1} << 20;

constexpr int kMostHidden = 16384;  // that rmsNorm takes

// The longest context of a step, rounded up, so that not every step is of another kind. Attention does the
// same for it, but for some blocks that find nothing to do.
int roundedContext(std::int64_t tokens) {
  const auto step = std::max(256, static_cast<int>(std::bit_floor(static_cast<unsigned>(tokens))) / 4);
  return static_cast<int>((tokens + step - 1) / step * step);
}

bf16* elements(Tensor x) { return static_cast<bf16*>(x.data); }

std::size_t blockBytes(const LaneLimits& limits) {
  const auto rows = static_cast<std::size_t>(limits.rows), slots = static_cast<std::size_t>(limits.slots);
  // A row may be a piece and a tile of its own, and a probe for two reasons, and an update more than one
  // where it is cut.
  const std::size_t step =
      rows * (3 * sizeof(std::int32_t) + sizeof(KvPiece) + sizeof(QueryTile) + 2 * sizeof(ProbeTile)) +
      slots * (6 * sizeof(std::int32_t) + 2 * sizeof(TableUpdate));
  // Where rows look, and the positions that they have then.
  const std::size_t words = static_cast<std::size_t>(limits.slotPages) / kWordPages + 1;
  const std::size_t layer =
      rows * sizeof(QueryTile) + slots * (sizeof(std::int32_t) + sizeof(SeenRow) + words * sizeof(SeenWord));
  // Rows of sequences in partitions, and the turns of their queries.
  const std::size_t partitions = limits.selection ? rows * sizeof(PartitionedRow) : 0;
  const std::size_t turns = static_cast<std::size_t>(PartitionPlan::mostTurns(limits)) * sizeof(std::int32_t);
  return step + static_cast<std::size_t>(limits.layers) * layer + partitions + turns +
         kUpdateValues * sizeof(std::uint64_t) + 4096;
}

std::size_t partsBytes(const LaneLimits& limits) {
  const int most = roundedContext(limits.slotPages * kPageTokens);
  const AttentionShape& shape = limits.attention;
  const std::size_t one = decodeAttentionScratch(1, most, shape.heads, shape.headDim);
  const std::size_t all = decodeAttentionScratch(limits.slots, most, shape.heads, shape.headDim);
  const std::size_t probed =
      probeScratch(1, probeTileTokens(shape.heads, shape.kvHeads), most, shape.heads, shape.kvHeads);
  return std::max(probed, std::min(all, std::max(one, kPartsBytes)));
}

}  // namespace

CudaOps::CudaOps(int device, const LaneLimits& limits, SlotTables& tables, const DeviceCopies& copies)
    : device_(device),
      limits_(limits),
      slotTables_(tables),
      copies_(copies),
      flights_{Flight(limits.layers), Flight(limits.layers)},
      block_(blockBytes(limits), "the plan of a step"),
      sampler_(limits.vocab, static_cast<int>(limits.logitRows)),
      angles_(static_cast<std::size_t>(limits.rows) * limits.attention.headDim * sizeof(float),
              "rope angles; lower the tokens of a step"),
      parts_(partsBytes(limits), "attention's parts"),
      sums_(std::max(kSums, static_cast<std::size_t>(limits.slotPages))),
      probes_(limits.attention, parts_.bytes(), sums_.room()),
      gathered_(static_cast<std::size_t>(limits.slots) * static_cast<std::size_t>(tables.slotStride()) *
                    sizeof(std::uint64_t),
                "page tables of sparse prefill; lower the longest sequence or the number of sequences"),
      partitions_(limits),
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
  if (!isOpen_) return;
  isOpen_ = false;
  graphs_.abandon();
  begun().samples.forget();
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
  check(!isOpen_ && submitted_ - finished_ < flights_.size(), "a lane has two steps at a time at most");
  isOpen_ = true;
  begun().timer.start(static_cast<std::int64_t>(plan.tokens.size()), submitted_, stream_);
  block_.clear();
  staged_.clear();
  sums_.clear();
  collectUpdates(plan.tables);
  layOut(plan);
  layOutProbes(plan);
  layOutSight(plan);
  layOutPartitions(plan);
  layOutCarried(plan);
  sendBlock();
  if (step_.carried) carryTokens({step_.carried, sampler_.tokens(), step_.tokens, step_.rows}, stream_);
  for (const KvTable& table : plan.tables) {
    slotTables_.setKnown(table, static_cast<std::int64_t>(table.pages[0].size()));
  }
  chooseTurn(plan.writesRows);
}

// Steps of single tokens only: those repeat.
void CudaOps::chooseTurn(bool writesRows) {
  turn_ = StepGraphs::Turn::run;
  if (step_.severals > 0 || groups_.size() > 1 || begun().timer.isMeasuring()) return;
  if (!sight_.empty() || !probes_.empty() || writesRows) return;
  StepGraphs::Kind kind{stream_};
  if (!groups_.empty()) {
    kind.sequences = groups_[0].count;
    kind.mostTokens = groups_[0].mostTokens;
  }
  if (!partitions_.empty()) {
    if (partitions_.groups().size() > 1 || partitions_.groups()[0].ofSeveral) return;
    kind.partitions = partitions_.groups()[0].sizes;
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

// The table entries that the device lacks. They go up with the step's arrays; if there are too many of them,
// most go before.
void CudaOps::collectUpdates(std::span<const KvTable> tables) {
  const auto layers = static_cast<std::int64_t>(limits_.layers);
  updates_.clear();
  updateValues_.clear();
  for (const KvTable& table : tables) {
    const auto pages = static_cast<std::int64_t>(table.pages[0].size());
    for (std::int64_t first = slotTables_.firstUnknown(table); first < pages;) {
      auto room = static_cast<std::int64_t>(kUpdateValues - updateValues_.size()) / layers;
      if (room == 0) {
        sendBlock();
        synchronize(stream_);
        block_.clear();
        updates_.clear();
        updateValues_.clear();
        room = static_cast<std::int64_t>(kUpdateValues) / layers;
      }
      const std::int64_t count = std::min(pages - first, room);
      updates_.push_back({table.slot, static_cast<std::int32_t>(first), static_cast<std::int32_t>(count),
                          static_cast<std::int32_t>(updateValues_.size())});
      for (std::int64_t layer = 0; layer < layers; ++layer) {
        for (std::int64_t page = first; page < first + count; ++page) {
          updateValues_.push_back(pageEntry(table.pages[layer][page], table.classes[layer][page]));
        }
      }
      first += count;
    }
  }
}

void CudaOps::layOut(const StepPlan& plan) {
  const auto tokens = block_.add<std::int32_t>(plan.tokens.size());
  std::ranges::copy(plan.tokens, tokens.begin());
  const auto positions = block_.add<std::int32_t>(plan.tokens.size());
  const auto slots = block_.add<std::int32_t>(plan.entries.size());
  pieces_.clear();
  tiles_.clear();
  singles_.clear();
  contexts_.clear();
  step_ = {};
  hasAngles_ = hasTurns_ = false;
  const auto tileTokens =
      static_cast<std::int64_t>(prefillTileTokens(limits_.attention.heads, limits_.attention.kvHeads));
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    const EntryRows& entry = plan.entries[i];
    const auto sequence = static_cast<std::int32_t>(i);
    slots[i] = plan.tables[i].slot;
    for (std::int64_t done = 0; done < entry.count;) {
      const std::int64_t token = (entry.position + done) % kPageTokens;
      const std::int64_t count = std::min(entry.count - done, kPageTokens - token);
      pieces_.push_back({static_cast<std::int32_t>(entry.row + done), static_cast<std::int32_t>(count),
                         sequence, static_cast<std::int32_t>((entry.position + done) / kPageTokens),
                         static_cast<std::int32_t>(token)});
      step_.longestPiece = std::max(step_.longestPiece, static_cast<int>(count));
      done += count;
    }
    for (std::int64_t token = 0; token < entry.count; ++token) {
      positions[entry.row + token] = static_cast<std::int32_t>(entry.dropped + entry.position + token);
    }
    if (plan.isPartitioned(i)) continue;
    if (entry.count == 1) {
      singles_.push_back({slots[i], static_cast<std::int32_t>(entry.row), sequence});
      contexts_.push_back(static_cast<std::int32_t>(entry.position + 1));
      continue;
    }
    ++step_.severals;
    for (std::int64_t done = 0; done < entry.count; done += tileTokens) {
      tiles_.push_back({static_cast<std::int32_t>(entry.row + done),
                        static_cast<std::int32_t>(std::min(tileTokens, entry.count - done)), sequence,
                        static_cast<std::int32_t>(entry.position + done)});
    }
  }
  step_.rows = static_cast<std::int64_t>(plan.tokens.size());
  step_.entries = plan.entries.size();
  step_.tokens = block_.onDevice(tokens);
  step_.positions = block_.onDevice(positions);
  step_.slots = block_.onDevice(slots);
  step_.pieces = add(pieces_);
  step_.tiles = add(tiles_);
  step_.contexts = add(contexts_);
  const auto singleSlots = block_.add<std::int32_t>(singles_.size());
  const auto singleRows = block_.add<std::int32_t>(singles_.size());
  for (std::size_t i = 0; i < singles_.size(); ++i) {
    singleSlots[i] = singles_[i].slot;
    singleRows[i] = singles_[i].row;
  }
  step_.singleSlots = block_.onDevice(singleSlots);
  step_.singleRows = block_.onDevice(singleRows);
  groupSingles();
}

template <class T>
const T* CudaOps::add(const std::vector<T>& values) {
  const std::span<T> array = block_.add<T>(values.size());
  std::ranges::copy(values, array.begin());
  return block_.onDevice(array);
}

// Behind what recorded kernels read, which lies in its place with and without it.
void CudaOps::layOutCarried(const StepPlan& plan) {
  if (std::ranges::none_of(plan.carried, [](std::int32_t row) { return row >= 0; })) return;
  check(plan.carried.size() == plan.tokens.size(), "a step says of each row, or of none, what it carries");
  const auto carried = block_.add<std::int32_t>(plan.carried.size());
  std::ranges::copy(plan.carried, carried.begin());
  step_.carried = block_.onDevice(carried);
}

void CudaOps::layOutProbes(const StepPlan& plan) {
  probes_.layOut(plan.probes, plan.entries);
  step_.probes = add(probes_.tiles());
}

void CudaOps::layOutSight(const StepPlan& plan) {
  ofSingles_.clear();
  for (std::size_t i = 0; i < singles_.size(); ++i) ofSingles_.push_back({singles_[i].entry, contexts_[i]});
  sight_.layOut(plan, limits_.layers, tiles_, ofSingles_);
  if (sight_.empty()) return;
  step_.seenRows = add(sight_.rows());
  step_.seenWords = add(sight_.words());
  step_.closedTiles = add(sight_.closedTiles());
  step_.closedContexts = add(sight_.closedContexts());
  const auto rowsOfEntries = block_.add<std::int32_t>(plan.entries.size());
  std::iota(rowsOfEntries.begin(), rowsOfEntries.end(), 0);
  const auto rowsOfSingles = block_.add<std::int32_t>(singles_.size());
  std::ranges::transform(singles_, rowsOfSingles.begin(), &Single::entry);
  step_.rowsOfEntries = block_.onDevice(rowsOfEntries);
  step_.rowsOfSingles = block_.onDevice(rowsOfSingles);
}

void CudaOps::layOutPartitions(const StepPlan& plan) {
  partitions_.layOut(plan);
  step_.partitionedRows = add(partitions_.rows());
  step_.turns = add(partitions_.turns());
}

// As many sequences together as the memory for their parts allows; nearly always all.
void CudaOps::groupSingles() {
  groups_.clear();
  const AttentionShape& shape = limits_.attention;
  for (std::size_t i = 0; i < contexts_.size(); ++i) {
    if (!groups_.empty()) {
      Group& group = groups_.back();
      const int most = std::max(group.mostTokens, roundedContext(contexts_[i]));
      if (decodeAttentionScratch(group.count + 1, most, shape.heads, shape.headDim) <= parts_.bytes()) {
        ++group.count;
        group.mostTokens = most;
        continue;
      }
    }
    groups_.push_back({static_cast<int>(i), 1, roundedContext(contexts_[i])});
  }
}

void CudaOps::sendBlock() {
  const auto updates = block_.add<TableUpdate>(updates_.size());
  std::ranges::copy(updates_, updates.begin());
  const auto values = block_.add<std::uint64_t>(updateValues_.size());
  std::ranges::copy(updateValues_, values.begin());
  block_.upload(stream_);
  cuda::updateTables({slotTables_.entries(), limits_.layers, slotTables_.slots(), slotTables_.slotStride(),
                      block_.onDevice(updates), static_cast<int>(updates.size()), block_.onDevice(values)},
                     stream_);
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
  cuda::appendKv(
      {elements(qkv), angles_.as<float>(), step_.pieces, static_cast<int>(pieces_.size()), step_.longestPiece,
       tablesOf(views[0], step_.slots), shape.heads, copies_.of(qGain), copies_.of(kGain), eps},
      stream_);
}

void CudaOps::attention(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                        const AttentionShape& shape, Tensor out) {
  const bool several = entries[0].count > 1;
  check(entries.size() == (several ? step_.severals : singles_.size()) && views.size() == entries.size(),
        "attention works on all entries of the step that have several tokens, or on all that have one, but "
        "for those in partitions");
  if (isReplayed()) return;
  const int layer = views[0].layer;
  // Pages of a layer with a window stay where they are, since it is counted in places.
  const bool isSparse = !sight_.empty(), closesUp = isSparse && shape.window == 0;
  if (isSparse && (several || step_.severals == 0)) gatherSeen(views[0], closesUp);
  const auto tables = [&](const std::int32_t* slots, const std::int32_t* rows) {
    PageTables all = tablesOf(views[0], slots);
    if (isSparse) {
      all.entries = gathered_.as<std::uint64_t>();
      all.slots = rows;
    }
    return all;
  };
  if (several) {
    const QueryTile* tiles = closesUp ? step_.closedTiles + layer * tiles_.size() : step_.tiles;
    prefillAttention({elements(qkv), tables(step_.slots, step_.rowsOfEntries), tiles,
                      static_cast<int>(tiles_.size()), shape.heads, shape.window, elements(out)},
                     stream_);
    return;
  }
  const std::int32_t* contexts = closesUp ? step_.closedContexts + layer * contexts_.size() : step_.contexts;
  for (const Group& group : groups_) {
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
       static_cast<int>(step_.entries), sight_.mostPages(), closesUp, gathered_.as<std::uint64_t>()},
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
                static_cast<std::int64_t>(partitions_.turns().size()), shape.headDim / 2, 1},
               stream_);
    hasTurns_ = true;
  }
  std::int64_t rows = 0;
  for (const EntryRows& entry : entries) rows += entry.count;
  for (const PartitionPlan::Group& group : partitions_.groups()) {
    if (group.ofSeveral != (entries[0].count > 1)) continue;
    rows -= group.sizes.rows;
    cuda::attendPartitions(
        {elements(qkv), tablesOf(views[0], step_.slots), step_.partitionedRows + group.firstRow, group.sizes,
         shape.heads, partitions_.topPages(), turns_.as<float>(), partitionScratch_.data(), elements(out)},
        stream_);
  }
  check(rows == 0,
        "attendPartitions works on all entries in partitions that have several tokens, or on all that have "
        "one");
}

void CudaOps::probe(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                    const AttentionShape& shape, std::span<const std::span<std::uint32_t>> saliency) {
  check(entries.size() == probes_.pages().size() && views.size() == entries.size() &&
            saliency.size() == entries.size() && qkv.rows == step_.rows,
        "probe works on all probes of the step's plan");
  for (std::size_t i = 0; i < entries.size(); ++i) {
    check(entries[i].count <= kMostProbes, "probe: an entry has too many rows");
    check(saliency[i].size() >= probes_.pages()[i], "probe: an entry's sums are fewer than its pages");
  }
  for (const ProbePlan::Group& group : probes_.groups()) {
    probeSums_.clear();
    for (std::size_t run = group.firstRun; run < group.firstRun + group.runs; ++run) {
      probeSums_.push_back(saliency[run].first(probes_.pages()[run]));
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
  SampleTransfer& samples = begun().samples;
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
  begun().timer.lap(OperatorClass::other, stream_);
  sums_.bringHome(stream_);
  begun().done.record(stream_);
  isOpen_ = false;
  ++submitted_;
}

void CudaOps::await(std::uint64_t step) {
  useDevice(device_);
  flights_[step % flights_.size()].done.wait();
}

StepSeconds CudaOps::finish() {
  check(finished_ < submitted_, "no step is to be finished");
  Flight& flight = flights_[finished_++ % flights_.size()];
  try {
    flight.done.wait();
  } catch (...) {
    flight.samples.forget();
    throw;
  }
  const StepTimer::Clock::time_point free = lastEnd_;
  lastEnd_ = StepTimer::Clock::now();
  if (flight.samples.isPending()) flight.samples.report();
  return flight.timer.seconds(free, lastEnd_);
}

}  // namespace tandem::cuda
