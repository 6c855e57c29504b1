#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/ops.h"
#include "grammar/grammar.h"
#include "grammar/rule-cache.h"
#include "grammar/warmer.h"
#include "kv/copy-thread.h"
#include "kv/kv-cache.h"
#include "model/lane.h"
#include "model/model-spec.h"
#include "model/slot.h"
#include "model/step.h"
#include "model/weights.h"

namespace tandem {

struct DeviceOptions {
  ModelSpec spec;
  std::vector<std::string> files;
  std::vector<TensorEntry> tensors;
  WeightOptions weights;
  PrecisionClass kvPrecision = PrecisionClass::bf16;
  std::size_t kvBytes = 0;   // 0: all that the backend has left
  bool kvMayShrink = false;  // to what the backend has left
  std::size_t farBytes = 0;  // of host memory, for far pages
  int slots = 0;
  int maxStepTokens = 0;
  std::int64_t maxSequenceTokens = 0;                     // 0: as many as the KV cache holds
  std::optional<PageSelection> selection = std::nullopt;  // what rows see of long sequences; absent: all
};

// A model on a backend, with its KV cache, its slots and two lanes that run steps at the same time. All
// methods belong to one thread, the one that plans; lanes report through the callback they were given, on
// their own thread.
class Device {
 public:
  // Loads the weights; takes as long as that takes.
  Device(std::unique_ptr<Backend> backend, DeviceOptions options);
  ~Device();  // waits for the steps, swaps and conversions in flight

  const ModelSpec& spec() const { return spec_; }
  const Backend& backend() const { return *backend_; }
  std::size_t weightBytes() const { return weights_.bytes(); }
  int maxStepTokens() const { return maxStepTokens_; }
  KvCache& kv() { return kv_; }

  // What the tokens stand for; needed before the first grammar.
  void setVocabulary(TokenBytes tokens);
  // A grammar for slots to follow.
  std::shared_ptr<Grammar> makeGrammar(GrammarTables tables);

  void partition(int prefillUnits);
  // Throws Error if the slot is open, or if its embedded rows are not the model's.
  void openSlot(int slot, SlotOptions options);
  void closeSlot(int slot);

  using Done = Lane::Done;

  // Starts a step on a lane (0 prefill, 1 decode). Throws Error, with nothing changed, if the step is not
  // well-formed or the lane is busy.
  void run(int lane, Step step, Done done);

  // Has a step wait behind the lane's running one, on the units of the partition as it is now: each of the
  // slots goes on with its last sampled token, which may be one that the running step will sample. It begins
  // when that ends, or before where Lane lets it; at once if none runs. If the step before it fails, so does
  // this one. Throws Error, with nothing changed, if one waits there already, or if a slot cannot go on.
  void follow(int lane, const std::vector<std::int32_t>& slots, Done done);
  // Takes back the step that waits, whose `done` is never called. False if none does: it has begun.
  bool withdraw(int lane);

  // Starts to move an open slot's KV to host memory, or back into an open, empty slot (false, and nothing
  // changed, if the pool is short of blocks), on a thread of its own while both lanes go on with other slots.
  // The slot is in flight until `finishSwap`, which the planning thread calls once `copied` has run (on the
  // copying thread), and which throws what went wrong there. The slot keeps its sampling state: what is
  // swapped is its KV.
  using Copied = std::function<void()>;
  SwapId swapOut(int slot, Copied copied);
  bool swapIn(int slot, SwapId id, Copied copied);
  void finishSwap(int slot);
  void dropSwapped(SwapId id);

  // Starts to write an open slot's full blocks [begin, end) again in other classes, classes [end - begin,
  // layers] (false, and nothing changed, if the pool is short of pages, or of places for far ones), on the
  // thread that swaps. The slot's steps go on with the old pages until the planning thread, some time after
  // `converted` has run, calls `finishConversion` between two steps, or gives the new ones up by
  // `dropConversion`.
  bool convert(int slot, std::int64_t begin, std::int64_t end, std::span<const PrecisionClass> classes,
               Copied converted);
  void finishConversion(int slot);
  void dropConversion(int slot);

  // See KvCache::drop. The rows of later steps see a selection of what is left.
  void drop(int slot, std::int64_t begin, std::int64_t end);

 private:
  // Of the lanes first: KV may have all that they leave.
  std::unique_ptr<KvMemory> allocate(const DeviceOptions& options);
  FarMemory allocateFar(const DeviceOptions& options);
  LaneLimits limitsOf(const DeviceOptions& options) const;
  void checkSelection(const DeviceOptions& options) const;
  std::size_t kvBytesOf(const DeviceOptions& options) const;
  enum class Turn : std::uint8_t { next, following };
  Lane::Job plan(int lane, Step step, Turn turn);
  // The token that a slot goes on with; of a step that follows it is not known yet.
  std::int32_t lastToken(int slot, Turn turn) const;
  void checkMayFollow(int lane, int slot) const;
  void handOver(int lane, Lane::Job job);
  void checkOpen(int slot) const;
  void checkEmbedded(const std::vector<EmbeddedRows>& embedded) const;

  std::unique_ptr<Backend> backend_;  // outlives all that it made
  const ModelSpec spec_;
  const int maxStepTokens_;
  const std::int64_t maxSequenceTokens_;
  const bool selects_;
  Weights weights_;
  std::array<std::unique_ptr<Lane>, 2> lanes_;  // with their memory: KV has what they leave
  KvCache kv_;
  CopyThread copier_;
  std::optional<RuleCache> grammarRules_;
  GrammarWarmer warmer_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<int> sampledBy_;  // of each slot: the lane of its last step, if that samples; else -1
  int prefillUnits_;            // of the steps that start from now on
};

}  // namespace tandem
