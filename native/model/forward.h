#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/ops.h"
#include "kv/kv-cache.h"
#include "model/model-spec.h"
#include "model/slot.h"
#include "model/step.h"
#include "model/weights.h"

namespace tandem {

// One entry of a step with all that the forward pass needs of it.
struct ForwardEntry {
  int slotIndex = 0;
  Slot* slot = nullptr;
  std::int64_t position = 0;             // of its first token, among those that are held
  std::int64_t dropped = 0;              // tokens before them
  std::span<const std::int32_t> tokens;  // at least one
  std::uint8_t wants = 0;
};

// A step that was begun, and what its ops have told of it so far.
struct BegunStep {
  struct Drawn {
    std::size_t entry;
    bool isWanted;  // only the logits are, otherwise
  };

  StepResult result;
  std::vector<Drawn> drawn;  // in the order of the requests
  std::vector<SampleOutcome> outcomes;
  bool drawsAtOnce = true;  // so that the next step may begin before this one is finished
};

// The decoder's forward pass, written once over the op interface, with a lane's buffers for activations.
class Forward {
 public:
  // `selection`: how much rows see of long sequences; absent: all.
  Forward(const ModelSpec& spec, const Weights& weights, const KvCache& kv, Backend& backend,
          std::int64_t maxTokens, const std::optional<PageSelection>& selection);

  // Asks for all entries as one batch: extends their KV, samples or scores what they want, and sees where the
  // rows of the probe runs look, whether or not they attend to all of that. `carried`: of a step that begins
  // before the one before it is finished, as in StepPlan.
  std::unique_ptr<BegunStep> begin(Ops& ops, std::span<const ForwardEntry> entries,
                                   std::span<const ProbeRun> probes, std::span<const SparseEntry> sparse,
                                   std::span<const std::int32_t> carried);
  // Waits for the oldest step, of these entries, whose slots accept what was sampled for them.
  static StepResult finish(Ops& ops, std::span<const ForwardEntry> entries, BegunStep& step);

 private:
  // Lays out the rows of the batch.
  void arrange(std::span<const ForwardEntry> entries);
  // Rows that stand for a slot's own values and not for the embeddings of their tokens.
  void arrangeWritten(std::span<const ForwardEntry> entries);
  void arrangeSight(std::span<const SparseEntry> sparse);
  // The views of all entries in a layer; sparse ones have no address where their rows do not look.
  // Into the kinds of `kinds_`.
  void arrangeKinds(std::span<const ForwardEntry> entries);
  void view(std::span<const ForwardEntry> entries, int layer);
  void attend(Ops& ops, Tensor qkv, const AttentionShape& shape, Tensor out);
  void arrangeProbes(std::span<const ForwardEntry> entries, std::span<const ProbeRun> probes,
                     std::vector<std::vector<std::uint32_t>>& saliency);
  void probe(Ops& ops, Tensor qkv, const AttentionShape& shape, std::span<const ForwardEntry> entries,
             int layer);
  void runLayers(Ops& ops, std::span<const ForwardEntry> entries);
  void scorePrompts(Ops& ops, std::span<const ForwardEntry> entries, std::span<EntryResult> results);
  void sampleLast(Ops& ops, std::span<const ForwardEntry> entries, std::span<const std::int32_t> carried,
                  BegunStep& step);
  // Logits of rows of the hidden state; at most logitRows_.
  Tensor logitsOf(Ops& ops, std::span<const std::int64_t> rows);
  // Final norm, in place, and head.
  Tensor headOf(Ops& ops, Tensor picked);
  // ln p of the token that follows the one with this hidden state.
  float scoreFirst(Ops& ops, std::span<const float> hidden, std::int32_t token);

  const ModelSpec& spec_;
  const Weights& weights_;
  const KvCache& kv_;
  const std::optional<PageSelection> selection_;
  const std::int64_t logitRows_;  // at a time: scoring a long prompt must not hold all of its rows at once
  std::unique_ptr<Buffer> hidden_, normed_, qkv_, attended_, gated_, gathered_, logits_;
  Tensor x_;
  std::vector<EntryRows> rows_;
  // For ops on KV, entries with several tokens come first, and among each kind those that see all of their
  // sequence, so that each kind's attention is a call and a time of its own.
  std::vector<std::size_t> kvOrder_;  // entries
  std::vector<EntryRows> kvRows_;
  std::vector<KvTable> kvTables_;
  std::vector<KvView> views_;
  std::vector<SeenPages> kvSight_;                  // empty where no entry is sparse
  std::vector<std::vector<std::byte*>> seenPages_;  // of sparse entries, as `kvRows_`
  std::vector<PagePartitions> partitions_;          // of each; empty where all see all
  std::array<std::size_t, 5> kinds_{};              // where each kind begins, and the end
  std::vector<std::int32_t> tokens_;
  struct WrittenRows {
    std::int64_t row;
    std::span<const float> values;  // [rows, hidden]
  };
  std::vector<WrittenRows> written_;
  // Of the step's probe runs.
  std::vector<std::size_t> probedEntries_;
  std::vector<EntryRows> probedRows_;
  std::vector<KvView> probedViews_;
  std::vector<std::span<std::uint32_t>> saliency_;  // [layers, pages] each
};

}  // namespace tandem
