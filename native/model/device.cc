#include "model/device.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tandem {
namespace {

std::string number(std::int64_t value) { return std::to_string(value); }

}  // namespace

Device::Device(std::unique_ptr<Backend> backend, DeviceOptions options)
    : backend_(std::move(backend)),
      spec_(std::move(options.spec)),
      maxStepTokens_(options.maxStepTokens),
      maxSequenceTokens_(options.maxSequenceTokens),
      selects_(options.selection.has_value()),
      weights_(loadWeights(spec_, options.files, options.tensors, *backend_, options.weights)),
      // In braces, since what is in them is evaluated in its order.
      kv_{{options.kvPrecision, spec_.kvHeads, spec_.headDim},
          spec_.layers,
          options.slots,
          allocate(options),
          allocateFar(options)},
      slots_(static_cast<std::size_t>(options.slots)),
      sampledBy_(static_cast<std::size_t>(options.slots), -1),
      prefillUnits_(backend_->units()) {}

std::unique_ptr<KvMemory> Device::allocate(const DeviceOptions& options) {
  check(options.slots > 0, "a device needs at least one slot");
  check(maxStepTokens_ >= options.slots, "a step must have room for one token of every slot");
  checkSelection(options);
  backend_->keep(spec_.rope.inverseFrequencies);
  std::array<std::unique_ptr<Forward>, 2> forwards;
  for (auto& forward : forwards) {
    forward = std::make_unique<Forward>(spec_, weights_, kv_, *backend_, maxStepTokens_, options.selection);
  }
  const LaneLimits limits = limitsOf(options);
  for (int lane = 0; lane < 2; ++lane) {
    lanes_[lane] = std::make_unique<Lane>(lane, *backend_, kv_, options.slots, std::move(forwards[lane]),
                                          backend_->openLane(lane, limits));
  }
  const std::size_t kvBytes = kvBytesOf(options);
  const std::size_t block =
      PageFormat{options.kvPrecision, spec_.kvHeads, spec_.headDim}.pageBytes() * spec_.layers;
  if (kvBytes < options.kvBytes && kvBytes < block) {
    throw Error("the model and the lanes leave " + std::to_string(kvBytes) +
                " bytes of the device's memory, and the KV of " + std::to_string(kPageTokens) +
                " tokens takes " + std::to_string(block) +
                "; take smaller weights, or lower --max-step-tokens or --max-sequences");
  }
  return backend_->allocateKv(kvBytes);
}

FarMemory Device::allocateFar(const DeviceOptions& options) {
  if (options.farBytes == 0) return {};
  return {backend_->allocateFar(options.farBytes), options.farBytes};
}

void Device::checkSelection(const DeviceOptions& options) const {
  if (!options.selection) return;
  check(options.selection->topPages > 0, "a selection must have pages");
  if (std::ranges::any_of(spec_.slidingWindow, [](int window) { return window > 0; })) {
    throw Error(
        "the model has layers that see a window of their own, which pack cannot serve; choose another --kv "
        "or --kv-pressure");
  }
}

std::size_t Device::kvBytesOf(const DeviceOptions& options) const {
  if (options.kvBytes > 0 && !options.kvMayShrink) return options.kvBytes;
  const std::size_t left = backend_->freeMemory();
  return options.kvBytes > 0 ? std::min(options.kvBytes, left) : left;
}

LaneLimits Device::limitsOf(const DeviceOptions& options) const {
  LaneLimits limits;
  limits.rows = maxStepTokens_;
  limits.logitRows = std::min<std::int64_t>(maxStepTokens_, backend_->logitRows());
  // Those that bring a scored prompt on, one a slot at most, and those of images.
  limits.writtenRows = options.slots + (spec_.readsImages ? maxStepTokens_ : 0);
  limits.hidden = spec_.hidden;
  limits.vocab = spec_.vocab;
  limits.slots = options.slots;
  limits.layers = spec_.layers;
  limits.attention = {spec_.heads, spec_.kvHeads, spec_.headDim, 0};
  limits.selection = options.selection;
  // Pages of the smallest class, since a sequence may be converted to it; of far ones as many as have a
  // place.
  const PageFormat format{options.kvPrecision, spec_.kvHeads, spec_.headDim};
  const auto pagesIn = [&](std::size_t bytes, PrecisionClass precision) {
    return static_cast<std::int64_t>(bytes / format.in(precision).pageBytes());
  };
  const std::size_t kvBytes = kvBytesOf(options);
  const std::int64_t pages =
      std::min(pagesIn(kvBytes, PrecisionClass::far),
               pagesIn(kvBytes, PrecisionClass::int2) + pagesIn(options.farBytes, PrecisionClass::int4));
  limits.slotPages = pages / spec_.layers;
  if (maxSequenceTokens_ > 0) {
    limits.slotPages = std::min(limits.slotPages, (maxSequenceTokens_ + kPageTokens - 1) / kPageTokens);
  }
  return limits;
}

Device::~Device() {
  for (const auto& lane : lanes_) lane->close();
}

void Device::setVocabulary(TokenBytes tokens) {
  grammarRules_.emplace(std::make_shared<const Vocabulary>(spec_.vocab, std::move(tokens)));
}

std::shared_ptr<Grammar> Device::makeGrammar(GrammarTables tables) {
  check(grammarRules_.has_value(), "a grammar needs the vocabulary; set it first");
  auto grammar = std::make_shared<Grammar>(std::move(tables), *grammarRules_);
  warmer_.post(grammar);
  return grammar;
}

void Device::partition(int prefillUnits) {
  if (prefillUnits < 0 || prefillUnits > backend_->units()) {
    throw Error("the prefill lane cannot have " + number(prefillUnits) + " of " + number(backend_->units()) +
                " units");
  }
  prefillUnits_ = prefillUnits;
}

void Device::openSlot(int slot, SlotOptions options) {
  if (slot < 0 || slot >= kv_.slots()) throw Error("there is no slot " + number(slot));
  if (slots_[slot]) throw Error("slot " + number(slot) + " is open already");
  checkEmbedded(options.embedded);
  slots_[slot] = std::make_unique<Slot>(std::move(options));
  sampledBy_[slot] = -1;
}

void Device::checkEmbedded(const std::vector<EmbeddedRows>& embedded) const {
  if (embedded.empty()) return;
  check(spec_.readsImages, "a model of text alone has no rows that are embedded otherwise");
  std::int64_t free = 0;
  for (const EmbeddedRows& run : embedded) {
    check(run.position >= free, "embedded rows overlap, or are out of order");
    if (run.values.empty() || run.values.size() % static_cast<std::size_t>(spec_.hidden) != 0) {
      throw Error("embedded rows have " + number(static_cast<std::int64_t>(run.values.size())) +
                  " values, expected some rows of " + number(spec_.hidden));
    }
    free = run.position + static_cast<std::int64_t>(run.values.size()) / spec_.hidden;
  }
}

void Device::checkOpen(int slot) const {
  if (slot < 0 || slot >= kv_.slots() || !slots_[slot]) throw Error("slot " + number(slot) + " is not open");
}

void Device::closeSlot(int slot) {
  checkOpen(slot);
  kv_.release(slot);
  slots_[slot].reset();
}

std::int32_t Device::lastToken(int slot, Turn turn) const {
  if (turn == Turn::following && kv_.isInStep(slot)) return -1;
  const std::int32_t token = slots_[slot]->lastToken();
  if (token < 0) throw Error("slot " + number(slot) + " has no sampled token to go on from");
  return token;
}

void Device::checkMayFollow(int lane, int slot) const {
  kv_.checkMayFollow(slot);
  if (kv_.isInStep(slot) && sampledBy_[slot] != lane) {
    throw Error("slot " + number(slot) +
                " is in a running step that does not sample its next token on this lane");
  }
}

Lane::Job Device::plan(int lane, Step step, Turn turn) {
  const std::size_t count = step.slots.size();
  check(count > 0, "a step needs at least one entry");
  check(step.counts.size() == count && step.wants.size() == count, "a step's columns differ in length");
  Lane::Job job;
  std::size_t next = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const int slot = step.slots[i];
    checkOpen(slot);
    if (turn == Turn::following) {
      checkMayFollow(lane, slot);
    } else {
      kv_.checkMayRun(slot);
    }
    kv_.checkTakesTokens(slot);
    for (std::size_t j = 0; j < i; ++j) {
      if (step.slots[j] == slot) throw Error("slot " + number(slot) + " appears twice in a step");
    }
    const std::int32_t tokens = step.counts[i];
    check(tokens >= 0 && step.tokens.size() - next >= static_cast<std::size_t>(tokens),
          "a step names more tokens than it brings");
    for (std::int32_t j = 0; j < tokens; ++j) {
      const std::int32_t token = step.tokens[next + j];
      if (token < 0 || token >= spec_.vocab) {
        throw Error("token " + number(token) + " is not in the vocabulary of " + number(spec_.vocab));
      }
      job.tokens.push_back(token);
    }
    if (tokens == 0) job.tokens.push_back(lastToken(slot, turn));
    next += tokens;
    const std::int64_t appended = std::max(tokens, 1), position = kv_.plannedLength(slot);
    if (maxSequenceTokens_ > 0 && position + appended > maxSequenceTokens_) {
      throw Error("slot " + number(slot) + " would have " + number(position + appended) +
                  " tokens; the device was opened for sequences of " + number(maxSequenceTokens_));
    }
    if (position + appended > kv_.reserved(slot)) {
      throw Error("slot " + number(slot) + " has room for " + number(kv_.reserved(slot)) +
                  " tokens, the step needs " + number(position + appended));
    }
    job.entries.push_back({slot, slots_[slot].get(), position, kv_.dropped(slot), {}, step.wants[i]});
  }
  check(next == step.tokens.size(), "a step brings more tokens than it names");
  for (const ProbeRun& run : step.probes) {
    check(run.entry >= 0 && run.entry < static_cast<std::int64_t>(count) && run.row >= 0 && run.count > 0 &&
              run.count <= kMostProbes && run.row + run.count <= std::max(step.counts[run.entry], 1),
          "a step probes rows that it does not have, or too many at once");
  }
  std::int32_t last = -1;
  for (const auto& [entry, pages, isSeen] : step.sparse) {
    check(entry > last && entry < static_cast<std::int32_t>(count),
          "a step's sparse entries are out of order");
    check(pages >= 0 && std::int64_t{pages} * kPageTokens <= job.entries[entry].position &&
              isSeen.size() == static_cast<std::size_t>(spec_.layers) * static_cast<std::size_t>(pages),
          "a sparse entry says of other pages than those before its tokens whether they are seen");
    last = entry;
  }
  if (static_cast<std::int64_t>(job.tokens.size()) > maxStepTokens_) {
    throw Error("a step of " + number(static_cast<std::int64_t>(job.tokens.size())) +
                " tokens is over the limit of " + number(maxStepTokens_));
  }
  std::size_t begin = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t tokens = std::max(step.counts[i], 1);
    job.entries[i].tokens = std::span(job.tokens).subspan(begin, tokens);
    begin += tokens;
  }
  job.step = std::move(step);
  return job;
}

void Device::run(int index, Step step, Done done) {
  check(index == 0 || index == 1, "a lane is 0 (prefill) or 1 (decode)");
  check(lanes_[index]->unfinished() == 0, "the lane is running a step already");
  Lane::Job job = plan(index, std::move(step), Turn::next);
  job.done = std::move(done);
  for (const ForwardEntry& entry : job.entries) {
    kv_.startStep(entry.slotIndex, static_cast<std::int64_t>(entry.tokens.size()));
  }
  handOver(index, std::move(job));
}

void Device::follow(int index, const std::vector<std::int32_t>& slots, Done done) {
  check(index == 0 || index == 1, "a lane is 0 (prefill) or 1 (decode)");
  // One whose forerunner is known to be done counts as running, whether or not its lane has come to it.
  check(lanes_[index]->unfinished() < 2, "a step waits already behind the one that the lane is running");
  Step step{slots,
            std::vector<std::int32_t>(slots.size()),
            {},
            std::vector<std::uint8_t>(slots.size(), kWantSample)};
  Lane::Job job = plan(index, std::move(step), Turn::following);
  job.done = std::move(done);
  job.follows = true;
  for (const ForwardEntry& entry : job.entries) job.given.push_back(kv_.followStep(entry.slotIndex, 1));
  handOver(index, std::move(job));
}

void Device::handOver(int index, Lane::Job job) {
  job.prefillUnits = prefillUnits_;
  for (const ForwardEntry& entry : job.entries) {
    sampledBy_[entry.slotIndex] = entry.wants & kWantSample ? index : -1;
  }
  lanes_[index]->handOver(std::move(job));
}

bool Device::withdraw(int index) {
  check(index == 0 || index == 1, "a lane is 0 (prefill) or 1 (decode)");
  const std::optional<Lane::Job> job = lanes_[index]->takeBack();
  if (!job) return false;
  for (std::size_t i = 0; i < job->entries.size(); ++i) {
    kv_.withdrawStep(job->entries[i].slotIndex, 1, job->given[i]);
  }
  return true;
}

SwapId Device::swapOut(int slot, Copied copied) {
  checkOpen(slot);
  KvCache::Swap swap = kv_.startSwapOut(slot);
  copier_.post([this, copies = std::move(swap.copies)] { copies.run(kv_.memory()); }, std::move(copied));
  return swap.id;
}

bool Device::swapIn(int slot, SwapId id, Copied copied) {
  checkOpen(slot);
  std::optional<KvCache::Swap> swap = kv_.startSwapIn(slot, id);
  if (!swap) return false;
  copier_.post([this, copies = std::move(swap->copies)] { copies.run(kv_.memory()); }, std::move(copied));
  return true;
}

void Device::finishSwap(int slot) {
  copier_.rethrow();
  copier_.retire(kv_.finishSwap(slot));
}

void Device::dropSwapped(SwapId id) { copier_.retire(kv_.dropSwapped(id)); }

bool Device::convert(int slot, std::int64_t begin, std::int64_t end, std::span<const PrecisionClass> classes,
                     Copied converted) {
  checkOpen(slot);
  std::optional<std::vector<PageConversion>> pages = kv_.startConversion(slot, begin, end, classes);
  if (!pages) return false;
  copier_.post(
      [this, slot, pages = std::move(*pages)] {
        backend_->requantize(pages);
        kv_.conversionWritten(slot);
      },
      std::move(converted));
  return true;
}

void Device::finishConversion(int slot) {
  copier_.rethrow();
  kv_.finishConversion(slot);
}

void Device::dropConversion(int slot) {
  copier_.rethrow();
  kv_.dropConversion(slot);
}

void Device::drop(int slot, std::int64_t begin, std::int64_t end) {
  checkOpen(slot);
  check(selects_, "only a device that was opened with a selection drops blocks");
  kv_.drop(slot, begin, end);
}

}  // namespace tandem
